"""Documents: the corpus built into CPython, and documents read from the user's files.

Owns what a document is (a name and its text) and which documents validate. Refuses to import any module
whose docstrings it reads: sources are parsed, never run.
"""

from __future__ import annotations

import ast
import codecs
import hashlib
import io
import json
import lzma
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pgpack.errors import DataError

SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
)
# Generated word lists and code tables: their docstrings are not sentences.
SKIPPED_PACKAGES = ("pydoc_data", "encodings", "turtledemo", "ensurepip")
TEXT_SUFFIXES = (".txt", ".md", ".jsonl", ".jsonl.xz", ".txt.xz", ".jsonl.zst", ".txt.zst")


@dataclass(frozen=True)
class Document:
    """One text with a name that stays the same from run to run."""

    name: str
    text: str


def builtin_corpus() -> list[Document]:
    """Reference topics and standard-library docstrings of this CPython, about 2 MB of English, in fixed order.

    Each topic is a document; each module's docstrings (module, classes, functions) are one more. A paragraph
    that occurs again (topics quote each other, modules share docstrings) is kept only where it first appears,
    so that validation text is not also training text.
    """
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_paths()["stdlib"])
    texts = [(f"topics/{name}", topics[name]) for name in sorted(topics)]
    for path in _library_sources(root):
        name = f"library/{path.relative_to(root).as_posix()}"
        texts.append((name, "\n\n".join(_docstrings(path))))
    seen: set[str] = set()
    documents = []
    for name, text in texts:
        new = [paragraph for paragraph in text.split("\n\n") if _is_new(paragraph, seen)]
        if new:
            documents.append(Document(name, "\n\n".join(new)))
    return documents


def _is_new(paragraph: str, seen: set[str]) -> bool:
    """Whether the paragraph's words were not seen before; they are added to `seen`."""
    words = " ".join(paragraph.split())
    is_new = bool(words) and words not in seen
    seen.add(words)
    return is_new


def _library_sources(root: Path) -> list[Path]:
    """Every .py of the library, sorted by its path below the root."""
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        for name in files:
            path = Path(folder, name)
            if path.suffix == ".py" and path.relative_to(root).parts[0] not in SKIPPED_PACKAGES:
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _docstrings(path: Path) -> Iterator[str]:
    """Docstrings of a source file in source order; a file that does not parse gives none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring and docstring.strip():
                yield docstring.strip()
        # Statements only: definitions hide in no expression, and expressions are most of the tree.
        for block in ("finalbody", "orelse", "handlers", "body"):
            children = getattr(node, block, [])
            if isinstance(children, list):
                pending.extend(reversed(children))


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
