"""A folder of training text: shards, tokenizer and a record of where they came from.

    DIR/corpus_train_000000.bin  DIR/corpus_val_000000.bin  DIR/tokenizer.model  DIR/corpus.json

Owns the layout of the folder that `pgtrain data` writes and `pgtrain run` reads. The challenge's own folders
(fineweb_train_*.bin, fineweb_val_*.bin and a .model) are read as well.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pgpack.errors import DataError

from .corpus_record import TOKENIZER_NAME, check_tokenizer, record_of
from .shard_files import find_shards, shard_length

TRAIN_GLOB, VAL_GLOB = "*_train_*.bin", "*_val_*.bin"


@dataclass(frozen=True)
class TextFolder:
    """Where the parts of a folder of training text lie. Paths are checked, contents are not yet read."""

    train_glob: str
    val_glob: str
    tokenizer_path: Path

    @classmethod
    def open(cls, folder: Path, tokenizer: Path | None = None) -> TextFolder:
        """The parts of `folder`; `tokenizer` wins over a .model inside it.

        Raises: DataError when shards or the tokenizer are missing, or the tokenizer is not the one on record.
        """
        if not folder.is_dir():
            how = f"{folder} -o text" if folder.exists() else f"-o {folder}"
            raise DataError(f"{folder} is not a folder; make one with: pgtrain data {how}")
        train_glob, val_glob = str(folder / TRAIN_GLOB), str(folder / VAL_GLOB)
        find_shards(train_glob)
        find_shards(val_glob)
        if tokenizer is None:
            models = sorted(folder.glob("*.model"))
            if len(models) != 1:
                raise DataError(f"{folder} holds {len(models)} .model files; name one as --tokenizer FILE.model")
            tokenizer = models[0]
        if not tokenizer.is_file():
            raise DataError(f"tokenizer {tokenizer} does not exist")
        check_tokenizer(tokenizer)
        return cls(train_glob, val_glob, tokenizer)

    def vocab_size(self) -> int:
        """Pieces of the tokenizer: from the folder's record when it is of this tokenizer, else from the model."""
        if self.tokenizer_path.name == TOKENIZER_NAME and (record := record_of(self.tokenizer_path.parent)):
            return record.vocab_size
        import sentencepiece

        return int(sentencepiece.SentencePieceProcessor(model_file=str(self.tokenizer_path)).vocab_size())

    def as_defaults(self, checkpoint: Path, seq_len: int) -> str:
        """The JSON by which a checkpoint says where its text lies: as seen from it, so that the pair can be moved."""
        here = checkpoint.resolve().parent
        paths = {"val": self.val_glob, "calib": self.train_glob, "tokenizer": str(self.tokenizer_path)}
        seen = {name: Path(os.path.relpath(Path(path).absolute(), here)).as_posix() for name, path in paths.items()}
        return json.dumps({**seen, "seq_len": seq_len}, sort_keys=True)

    def count_tokens(self) -> tuple[int, int]:
        """(training, validation) tokens by the shard headers alone."""
        train, val = (
            sum(shard_length(path) for path in find_shards(pattern)) for pattern in (self.train_glob, self.val_glob)
        )
        return train, val
