"""Documents of the user's files: what one is, how it is read without holding more of a file than a part.

.txt .md     one document, or several separated by lines that hold one NUL
.jsonl       one document a line, in the field "text" or another
.parquet     one document a row, in the column of that name
each also as .gz, .xz, .zst; folders of them
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from pgpack.errors import DataError, no_file
from pgpack.files import Unchanged

from .compressed import PACKED, opened
from .parquet import parquet_texts
from .shard_files import SUFFIXES

PLAIN = (".txt", ".md")
WITH_FIELDS = (".jsonl", ".parquet")
KINDS = (*PLAIN, *WITH_FIELDS)
EXPECTED = f"{', '.join(KINDS)}, each also as {', '.join(PACKED)}"
DATA = (  # not read
    ".arrow", ".feather", ".json", ".csv", ".tsv", ".xml", ".mds", ".tar", ".zip", ".bz2", ".h5", ".orc",
)  # fmt: skip
ABOUT = re.compile(r"(readme|licen[cs]e|notice|citation|changelog|data_?set_?card)\b", re.IGNORECASE)
FIELD = "text"
PART = 1 << 18  # characters
NULS = 0.1  # share of the characters of a part: more is UTF-16 without its mark, or no text at all
MARKS = {  # how files begin -> what they are; the longest of those that begin alike first
    b"\x1f\x8b": ".gz",
    b"\xfd7zX": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
CUTS = 16  # parts of a document that is alone
LONGEST_LINE = 1 << 28  # characters of a line of .jsonl, which is held whole


@dataclass(frozen=True)
class Document:
    """One text with a name that stays the same from run to run."""

    name: str
    text: str


@dataclass(frozen=True)
class Part:
    """A part of a document, `number` 0, 1, ...; most documents are one part.

    A document of more than `PART` characters is cut at its next blank line, at the latest after twice as many.
    """

    name: str
    number: int
    text: str


def text_kind(path: Path) -> str | None:
    """Which of `KINDS` a file is, by its name; None for none."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return next((kind for kind in KINDS if name.endswith(kind)), None)


def _files_below(folder: Path) -> list[Path]:
    """Every file in a folder and its folders, hidden ones and links to folders left out, sorted by path.

    Raises: OSError for a folder that cannot be listed: what lies in it would be left out in silence.
    """

    def refuse(error: OSError) -> NoReturn:
        raise error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [path for name in names if not name.startswith(".") and (path := Path(place, name)).is_file()]
    return sorted(found)


def _listed(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def find_texts(sources: Iterable[Path]) -> list[Path]:
    """The files of text that `sources` name, in the order given; of a folder all but hidden ones, sorted by path.

    Raises: DataError for a missing path, a folder without text, a file of another kind; OSError for a folder in it
    that cannot be listed.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            below = _files_below(source)
            files = [path for path in below if text_kind(path)]
            others = [path.name for path in below if path.suffix.lower() in DATA]
            if not files:
                shards = f"; token shards are named as {source}/*.bin" if any(source.glob("*.bin")) else ""
                there = f" (it holds {_listed(others)})" if others else ""
                raise DataError(f"{source} holds no text{there}; expected files ending in {EXPECTED}{shards}")
            if others and all(ABOUT.match(path.name) for path in files):
                raise DataError(
                    f"{source} holds {_listed([path.name for path in files])}, which are about it, and "
                    f"{_listed(others)}, of a kind that is not read; expected files ending in {EXPECTED}"
                )
            found.extend(files)
        elif not source.is_file():
            raise DataError(
                f"{source} {no_file(source)}; give text files or folders, or none for the built-in corpus"
            )
        elif text_kind(source) is None:
            shards = "; token shards go to --val and --calib" if source.suffix in SUFFIXES else ""
            lines = "; let the name of lines of JSON end in .jsonl" if ".json" in source.suffixes else ""
            raise DataError(f"{source} is not text that I know; expected {EXPECTED}{shards}{lines}")
        else:
            found.append(source)
    return found


def read_documents(sources: Iterable[Path], field: str = FIELD) -> list[Document]:
    """Documents of files and folders, whole, in the order of `find_texts`; empty ones are left out.

    Lines of .txt and .md end in LF alone. Raises: DataError as `find_texts` and `read_parts`, and without any;
    InputChanged.
    """
    documents = []
    files = find_texts(sources)
    unchanged = Unchanged(files)
    for path in files:
        for name, parts in groupby(read_parts(path, field), lambda part: part.name):
            text = "".join(part.text for part in parts)
            documents.append(Document(name, text.replace("\r\n", "\n") if text_kind(path) in PLAIN else text))
    unchanged.check()
    if not documents:
        raise DataError("the sources hold no documents; every text in them is empty")
    return documents


def read_parts(path: Path, field: str = FIELD, longest: int = PART) -> Iterator[Part]:
    """The documents of one file in parts of about `longest` characters; nothing more of the file is held.

    Text is given as it stands in the file, less a byte order mark. Parts without a letter are left out.
    Raises: DataError for text that is not UTF-8, lines that are not JSON, a field that is not there.
    """
    kind = text_kind(path)
    if kind == ".parquet":
        texts: Iterator[tuple[int, Iterable[str]]] = (
            (index, _lines(text, longest)) for index, text in enumerate(parquet_texts(path, field))
        )
        yield from _parts(path, texts, longest)
        return
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="\n") as stream:
        try:
            if kind == ".jsonl":
                texts = ((n, _lines(text, longest)) for n, text in enumerate(_jsonl_texts(path, stream, field)))
            else:
                texts = _separated(iter(lambda: stream.readline(longest), ""))
            yield from _parts(path, texts, longest)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} {_other_text(path, error.reason)}") from None


def _other_text(path: Path, reason: str) -> str:
    """What a file is whose bytes, decompressed as its name says, are no UTF-8, and what to do."""
    with opened(path) as stream:
        head = stream.read(4)
    found = next((what for mark, what in MARKS.items() if head.startswith(mark)), None)
    if found in PACKED:
        return f"is packed; let its name end in {found}"
    return f"is {found} text; save it as UTF-8" if found else f"is not UTF-8 text ({reason}); save it as UTF-8"


def beginning(path: Path) -> bytes:
    """sha256 of how a file begins: what orders files, whatever their names."""
    if text_kind(path) == ".parquet":
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(4096)).digest()
    with opened(path) as stream:
        return hashlib.sha256(stream.read(4096)).digest()


def _parts(path: Path, texts: Iterable[tuple[int, Iterable[str]]], longest: int) -> Iterator[Part]:
    for index, lines in texts:
        for number, text in enumerate(_cut(lines, longest)):
            if text.count("\0") > NULS * len(text):
                raise DataError(f"{path} is not UTF-8 text (it is full of NUL, as UTF-16 is); save it as UTF-8")
            if text.strip():
                yield Part(f"{path.name}#{index}", number, text)


def _cut(lines: Iterable[str], longest: int) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= 2 * longest or (size >= longest and not line.strip()):
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def _lines(text: str, longest: int) -> Iterator[str]:
    """The lines of a text, long ones in pieces; their ends stay."""
    stream = io.StringIO(text, newline="\n")
    return iter(lambda: stream.readline(longest), "")


def _separated(lines: Iterable[str]) -> Iterator[tuple[int, Iterable[str]]]:
    """(number, lines) of every document; the numbers count empty ones too."""
    index = 0
    for separates, run in groupby(lines, lambda line: line.rstrip("\r\n") == "\0"):
        if separates:
            index += sum(1 for _ in run)
        else:
            yield index, run


def _jsonl_texts(path: Path, stream: io.TextIOWrapper, field: str) -> Iterator[str]:
    read: Callable[[], str] = lambda: stream.readline(LONGEST_LINE)  # noqa: E731
    for number, line in enumerate(iter(read, ""), start=1):
        where = f"{path}, line {number}"
        if len(line) == LONGEST_LINE:
            raise DataError(f"{where}: is longer than {LONGEST_LINE:,} characters; .jsonl holds one object a line")
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or field not in row:
            keys = (
                f"; it has {', '.join(map(str, row))}: name one as --field" if isinstance(row, dict) and row else ""
            )
            raise DataError(f'{where}: expected one JSON object with a "{field}" string{keys}')
        text = "" if row[field] is None else row[field]
        if not isinstance(text, str):
            raise DataError(f'{where}: "{field}" is a {type(text).__name__}, expected a string')
        yield text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def split_documents(documents: Iterable[Document], val_fraction: float) -> tuple[list[Document], list[Document]]:
    """(train, val), chosen by a hash of each document's name: adding documents moves none of the others.

    Few documents divide as a source does (see `share_that_divides`); one that is alone is cut into `CUTS` parts,
    which count as documents. Raises: DataError when it is too short for that, or all have one name.
    """
    found = list(documents)
    if len(found) == 1:
        found = _cut_alone(found[0])
    if len(found) < 2:
        raise DataError("the text is too short to be split into training and validation; give more")
    places = [_place_by_name(document.name) for document in found]
    share = share_that_divides(min(places), max(places), val_fraction)
    train, val = ([d for d, at in zip(found, places, strict=True) if (at < share) is side] for side in (False, True))
    if not train or not val:
        raise DataError(f"every document is called {found[0].name}, and names divide them; give a file another name")
    return train, val


def share_that_divides(lowest: float, highest: float, share: float) -> float:
    """The share that leaves no side empty, of documents whose places in [0, 1) reach from lowest to highest: as it
    is, or so that the document nearest to it changes sides."""
    if lowest >= share:
        return math.nextafter(lowest, 1.0)
    return highest if highest < share else share


def _place_by_name(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:4], "big") / 2.0**32


def _cut_alone(document: Document) -> list[Document]:
    longest = max(1, len(document.text) // CUTS)
    parts = (part for part in _cut(_lines(document.text, longest), longest) if part.strip())
    return [Document(f"{document.name}.{number}", part) for number, part in enumerate(parts)]
