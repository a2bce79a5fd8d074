"""Documents -> a folder of shards, and its tokens back: what `pgtrain data` writes and a training run reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pgpack.files import replace_together, with_checksum

from .corpus_record import RECORD_NAME, CorpusRecord
from .data import Tokens, digest_tokens, read_tokens, shards_of
from .documents import Document, split_documents
from .find_tokenizer import load_tokenizer
from .sentence_piece import train_tokenizer
from .shard_files import HEADER_INTS, find_shards
from .text_folder import TRAIN_GLOB, VAL_GLOB, TextFolder
from .tokenizer import Tokenizer
from .tokenizer_files import JSON, MODEL, SETTINGS


def write_text_folder(
    documents: Sequence[Document], folder: Path, tokenizer: Tokenizer | None, vocab_size: int, val_fraction: float
) -> CorpusRecord:
    """Split, tokenize and write documents; without a `tokenizer` one is trained on the training part.

    All files are on the disk before any has its name, the record last; no shard of an older, longer corpus stays,
    and no tokenizer of one. Raises: DataError when a part stays empty, the tokenizer cannot be trained, or its tokens
    do not tell where documents begin and how many bytes they are.
    """

    train, val = split_documents(documents, val_fraction)
    if tokenizer is None:
        tokenizer = train_tokenizer((d.text for d in train), vocab_size)
    train_tokens, val_tokens = (tokenizer.encode_documents(d.text for d in part) for part in (train, val))
    shards = [*shards_of(train_tokens, folder, "corpus_train"), *shards_of(val_tokens, folder, "corpus_val")]
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
        val_text_bytes=tokenizer.byte_tables.counted(val_tokens).scored_bytes,
        shards={path.name: hashlib.sha256(memoryview(data)[4 * HEADER_INTS :]).hexdigest() for path, data in shards},
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        *shards,
        *((folder / name, data) for name, data in tokenizer.files.items()),
        (folder / RECORD_NAME, f"{with_checksum(json.dumps(asdict(record), indent=2))}\n".encode()),
    ]
    older = {path for pattern in (TRAIN_GLOB, VAL_GLOB) for path in folder.glob(f"corpus{pattern[1:]}")}
    if (folder / RECORD_NAME).is_file():
        older |= {folder / name for name in (MODEL, JSON, SETTINGS) if (folder / name).is_file()}
    replace_together(files, stale=older - {path for path, _ in files})
    return record


def read_text_folder(folder: TextFolder, vocab_size: int) -> tuple[Tokens, Tokens]:
    """(training, validation) tokens, checked against the vocabulary."""
    return (
        read_tokens(find_shards(folder.train_glob), vocab_size),
        read_tokens(find_shards(folder.val_glob), vocab_size),
    )


def vocab_size_of(folder: TextFolder) -> int:
    """Pieces of the tokenizer: by the folder's record where that is of this tokenizer, else by the tokenizer itself.

    Raises: DataError for a record that is none, or a tokenizer that cannot be read.
    """
    recorded = folder.recorded_vocab_size()
    return load_tokenizer(folder.tokenizer_path).vocab_size if recorded is None else recorded
