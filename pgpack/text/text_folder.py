"""A folder of training text: shards, tokenizer and a record of where they came from.

    DIR/corpus_train_000000.bin  DIR/corpus_val_000000.bin  DIR/tokenizer.model  DIR/corpus.json

Owns the layout of the folder that `pgtrain data` writes and `pgtrain run` reads. The challenge's own folders
(fineweb_train_*.bin, fineweb_val_*.bin and a .model) are read as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgpack.errors import DataError

from .shard_files import find_shards, shard_length

if TYPE_CHECKING:
    from pgtrain.corpus import Document

    from .data import Tokens
    from .tokenizer import Tokenizer

TRAIN_GLOB, VAL_GLOB, TOKENIZER_NAME, RECORD_NAME = "*_train_*.bin", "*_val_*.bin", "tokenizer.model", "corpus.json"


@dataclass(frozen=True)
class CorpusRecord:
    """What `pgtrain data` made. Units: bytes are UTF-8 bytes of the documents before tokenizing."""

    vocab_size: int
    tokenizer_sha256: str
    train_documents: int
    val_documents: int
    train_bytes: int
    val_bytes: int
    train_tokens: int
    val_tokens: int
    train_sha256: str
    val_sha256: str
    val_text_bytes: int

    @property
    def val_bytes_per_token(self) -> float:
        return self.val_text_bytes / max(self.val_tokens, 1)


def write_text_folder(
    documents: Sequence[Document], folder: Path, tokenizer: Tokenizer | None, vocab_size: int, val_fraction: float
) -> CorpusRecord:
    """Split, tokenize and write documents; without a `tokenizer` one is trained on the training part.

    Raises: DataError when a part stays empty or the tokenizer cannot be trained.
    """
    from pgtrain.corpus import split_documents

    from .data import digest_tokens, write_shards
    from .tokenizer import train_tokenizer

    train, val = split_documents(documents, val_fraction)
    if tokenizer is None:
        tokenizer = train_tokenizer((d.text for d in train), vocab_size)
    train_tokens, val_tokens = (tokenizer.encode(d.text for d in part) for part in (train, val))
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (TRAIN_GLOB, VAL_GLOB):  # a shorter corpus must not leave shards of an older one behind
        for old in folder.glob(f"corpus{pattern[1:]}"):
            old.unlink()
    write_shards(train_tokens, folder, "corpus_train")
    write_shards(val_tokens, folder, "corpus_val")
    (folder / TOKENIZER_NAME).write_bytes(tokenizer.model)
    record = CorpusRecord(
        vocab_size=tokenizer.vocab_size,
        tokenizer_sha256=tokenizer.sha256,
        train_documents=len(train),
        val_documents=len(val),
        train_bytes=sum(len(d.text.encode("utf-8")) for d in train),
        val_bytes=sum(len(d.text.encode("utf-8")) for d in val),
        train_tokens=len(train_tokens),
        val_tokens=len(val_tokens),
        train_sha256=digest_tokens(train_tokens),
        val_sha256=digest_tokens(val_tokens),
        val_text_bytes=tokenizer.byte_tables.count(val_tokens[:-1], val_tokens[1:]),
    )
    (folder / RECORD_NAME).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    return record


@dataclass(frozen=True)
class TextFolder:
    """Where the parts of a folder of training text lie. Paths are checked, contents are not yet read."""

    train_glob: str
    val_glob: str
    tokenizer_path: Path

    @classmethod
    def open(cls, folder: Path, tokenizer: Path | None = None) -> TextFolder:
        """The parts of `folder`; `tokenizer` wins over a .model inside it.

        Raises: DataError when shards or the tokenizer are missing.
        """
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; make one with: pgtrain data -o {folder}")
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
        return cls(train_glob, val_glob, tokenizer)

    def vocab_size(self) -> int:
        """Pieces of the tokenizer: from the folder's record when it is of this tokenizer, else from the model."""
        record = self.tokenizer_path.parent / RECORD_NAME
        if record.is_file() and self.tokenizer_path.name == TOKENIZER_NAME:
            try:
                return int(json.loads(record.read_text(encoding="utf-8"))["vocab_size"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{record} is not the record of `pgtrain data`; write the folder again") from error
        from .tokenizer import Tokenizer

        return Tokenizer.load(self.tokenizer_path).vocab_size

    def count_tokens(self) -> tuple[int, int]:
        """(training, validation) tokens by the shard headers alone."""
        train, val = (
            sum(shard_length(path) for path in find_shards(pattern)) for pattern in (self.train_glob, self.val_glob)
        )
        return train, val

    def read(self, vocab_size: int) -> tuple[Tokens, Tokens]:
        """(training, validation) tokens, checked against the vocabulary."""
        from .data import read_tokens

        return (
            read_tokens(find_shards(self.train_glob), vocab_size),
            read_tokens(find_shards(self.val_glob), vocab_size),
        )
