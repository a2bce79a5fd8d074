"""Documents of the user's files: what one is (a name and its text), how it is read, which of them validate."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pgpack.errors import DataError

TEXT_SUFFIXES = (".txt", ".md", ".jsonl", ".jsonl.xz", ".txt.xz", ".jsonl.zst", ".txt.zst")


@dataclass(frozen=True)
class Document:
    """One text with a name that stays the same from run to run."""

    name: str
    text: str


def read_documents(sources: Iterable[Path]) -> list[Document]:
    """Documents of files and directories, in the order given (inside a directory: sorted by path).

    .txt/.md: one document, or several separated by lines that hold one NUL; .jsonl: one per line, key `text`;
    both also as .xz, .zst. Raises: DataError for a missing path, an unknown suffix, text that is not UTF-8.
    """
    documents: list[Document] = []
    for source in sources:
        if source.is_dir():
            files = sorted(p for p in source.rglob("*") if p.is_file() and p.name.endswith(TEXT_SUFFIXES))
            if not files:
                raise DataError(f"{source} holds no text; expected files ending in {', '.join(TEXT_SUFFIXES)}")
        elif source.is_file():
            files = [source]
        else:
            raise DataError(f"{source} does not exist; give text files or folders, or none for the built-in corpus")
        for path in files:
            documents.extend(_read_file(path))
    if not documents:
        raise DataError("the sources hold no documents; every text in them is empty")
    return documents


def _read_file(path: Path) -> Iterator[Document]:
    if not path.name.endswith(TEXT_SUFFIXES):
        raise DataError(f"{path} is not text that I know; expected {', '.join(TEXT_SUFFIXES)}")
    texts = _jsonl_texts(path) if ".jsonl" in path.suffixes else _separated_texts(path)
    for index, text in enumerate(texts):
        if text.strip():
            yield Document(f"{path.name}#{index}", text)


def _jsonl_texts(path: Path) -> Iterator[str]:
    for number, line in enumerate(_decoded(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{path}, line {number}: expected one JSON object with a "text" string') from error
        if not isinstance(text, str):
            raise DataError(f'{path}, line {number}: "text" is a {type(text).__name__}, expected a string')
        yield text


def _separated_texts(path: Path) -> list[str]:
    return ("\n" + _decoded(path).replace("\r\n", "\n") + "\n").split("\n\0\n")


def _decoded(path: Path) -> str:
    """The file's text: decompressed when its name says so, UTF-8 with or without a mark."""
    blob = path.read_bytes()
    try:
        if path.suffix == ".xz":
            blob = lzma.decompress(blob)
        elif path.suffix == ".zst":
            blob = _unzstd(blob)
        return blob.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start} cannot be decoded") from error
    except lzma.LZMAError as error:
        raise DataError(f"{path} is not a complete .xz file: {error}") from error


def _unzstd(blob: bytes) -> bytes:
    import zstandard

    try:
        # Long-distance archives use windows up to 2^27 and more; the default limit would refuse them.
        reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(io.BytesIO(blob))
        return bytes(reader.read())
    except zstandard.ZstdError as error:
        raise DataError(f"not a complete .zst file: {error}") from error


def split_documents(documents: Iterable[Document], val_fraction: float) -> tuple[list[Document], list[Document]]:
    """(train, val), chosen by a hash of each document's name: adding documents moves none of the others.

    Raises: DataError when a side stays empty.
    """
    train: list[Document] = []
    val: list[Document] = []
    for document in documents:
        digest = hashlib.sha256(document.name.encode("utf-8")).digest()
        is_val = int.from_bytes(digest[:4], "big") < val_fraction * 2**32
        (val if is_val else train).append(document)
    if not train or not val:
        raise DataError(
            f"{len(train) + len(val)} documents leave the {'validation' if train else 'training'} part empty at "
            f"val fraction {val_fraction:g}; give more documents (or split long ones with NUL lines)"
        )
    return train, val
