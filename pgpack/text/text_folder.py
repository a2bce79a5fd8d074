"""A folder of training text: shards, tokenizer and a record of where they came from.

    DIR/corpus_train_000000.bin  DIR/corpus_val_000000.bin  DIR/corpus.json
    DIR/tokenizer.model, or DIR/tokenizer.json with its tokenizer_config.json

Owns the layout of the folder that `pgtrain data` writes and `pgtrain run` reads. The challenge's own folders
(fineweb_train_*.bin, fineweb_val_*.bin and a .model) are read as well.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from pgpack.errors import DataError

from .corpus_record import check_tokenizer, record_of
from .shard_files import find_shards, shard_length
from .tokenizer_files import JSON, MODEL, files_of_tokenizer

TRAIN_GLOB, VAL_GLOB = "*_train_*.bin", "*_val_*.bin"


@dataclass(frozen=True)
class TextFolder:
    """Where the parts of a folder of training text lie. Paths are checked, contents are not yet read."""

    train_glob: str
    val_glob: str
    tokenizer_path: Path

    @classmethod
    def open(cls, folder: Path, tokenizer: Path | None = None) -> TextFolder:
        """The parts of `folder`; `tokenizer`, a file or a model's folder, wins over what lies inside.

        Raises: DataError when shards or the tokenizer are missing, or the tokenizer is not the one on record.
        """
        if not folder.is_dir():
            how = f"{folder} -o text" if folder.exists() else f"-o {folder}"
            raise DataError(f"{folder} is not a folder; make one with: pgtrain data {how}")
        train_glob, val_glob = str(folder / TRAIN_GLOB), str(folder / VAL_GLOB)
        try:
            find_shards(train_glob)
            find_shards(val_glob)
        except DataError as error:
            text = shlex.quote(str(folder))
            raise DataError(
                f"{error}; what makes shards and a tokenizer of text: pgtrain data {text} -o text"
            ) from None
        if tokenizer is None:
            tokenizer = _tokenizer_in(folder)
        files_of_tokenizer(tokenizer)
        if tokenizer.is_file():
            check_tokenizer(tokenizer)
        return cls(train_glob, val_glob, tokenizer)

    def recorded_vocab_size(self) -> int | None:
        """Pieces of the tokenizer by the record of `pgtrain data`; None where there is none of this tokenizer.

        Raises: DataError for a damaged record.
        """
        if self.tokenizer_path.name not in (MODEL, JSON):
            return None
        record = record_of(self.tokenizer_path.parent)
        return None if record is None else record.vocab_size

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


def _tokenizer_in(folder: Path) -> Path:
    """The tokenizer that lies beside the shards: a .model, or else a tokenizer.json. Raises: DataError."""
    models = sorted(folder.glob("*.model"))
    if not models and (folder / JSON).is_file():
        return folder / JSON
    if len(models) != 1:
        several = f"{len(models)} .model files" if models else f"neither a .model file nor a {JSON}"
        raise DataError(f"{folder} holds {several}; name the tokenizer of the shards as --tokenizer FILE")
    return models[0]
