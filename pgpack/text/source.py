"""Text as a user names it: files, folders, globs of them, or the built-in corpus; and its two sides.

    source --parts--> documents --hash of each one's content--> validation | calibration

Files come in the order of a hash of how they begin, so that which documents are read depends on no name and on no
order of flags. A document is on the side that its own content says: equal documents are on the same one, whichever
file holds them. What is longer than `DOCUMENT_PARTS` parts counts as several documents.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from glob import glob
from pathlib import Path

from pgpack.errors import DataError, no_file
from pgpack.files import Unchanged

from .builtin import builtin_corpus
from .documents import (
    CUTS,
    FIELD,
    PART,
    Document,
    Part,
    beginning,
    find_texts,
    read_parts,
    share_that_divides,
    text_kind,
)

BUILTIN = "builtin"
VAL_SHARE = 0.2  # of the documents; few are read of a large source, so this matters for small ones
SEED = 0
DOCUMENT_PARTS = 16  # 4 M characters: longer than nearly every book
SEARCHED = 1 << 29  # characters read to find a document of either side


@dataclass(frozen=True)
class TextSource:
    """Documents of `files`, or of the built-in corpus where there are none, in parts.

    `field`: of .jsonl and .parquet. `longest`: characters of a part; `document_parts`: parts of a document.
    """

    files: tuple[Path, ...]
    field: str = FIELD
    longest: int = PART
    document_parts: int = DOCUMENT_PARTS
    unchanged: Unchanged = dataclasses.field(default_factory=lambda: Unchanged(()), compare=False, repr=False)

    def parts(self) -> Iterator[Part]:
        """Every part in the order of the files.

        Raises: DataError as `read_parts`; InputChanged for a file that is not what it was when the source was opened.
        """
        for path in self._ordered:
            yield from self._steady(path, read_parts(path, self.field, self.longest))
        if not self.files:
            yield from (Part(document.name, 0, document.text) for document in _builtin())

    def _steady(self, path: Path, parts: Iterator[Part]) -> Iterator[Part]:
        """The parts of a file that stays the same. Raises: InputChanged."""
        part: Part | None = None
        while True:
            try:
                part = next(parts, None)
            finally:  # a file that was cut fails in many ways
                if path in self.unchanged.files:
                    self.unchanged.check(path)
            if part is None:
                return
            yield part

    @cached_property
    def _ordered(self) -> list[Path]:
        return sorted(self.files, key=lambda path: (beginning(path), str(path)))


def open_source(names: Sequence[str], field: str | None = None) -> TextSource:
    """The text that `names` stand for: paths, globs of files, or `builtin`.

    Raises: DataError where there is none.
    """
    if BUILTIN in names:
        if len(names) > 1:
            raise DataError("builtin is a text of its own; give it alone, or a file of that name as ./builtin")
        return TextSource(())
    paths: list[Path] = []
    for name in names:
        found = [Path(name)] if Path(name).exists() else [Path(path) for path in sorted(glob(name))]
        if not found:
            raise DataError(f"{name} {no_file(Path(name))}; give files or folders of text, or the word {BUILTIN}")
        paths.extend(found)
    files = {path.resolve(): path for path in find_texts(paths)}
    return TextSource(tuple(files.values()), field or FIELD, unchanged=Unchanged(files.values()))


def is_text(name: str) -> bool:
    """Whether a name stands for text and not for shards: builtin, a folder, files of a known ending, their glob."""
    if name == BUILTIN:
        return True
    path = Path(name)
    if path.is_dir():
        return True
    found = [path] if path.exists() else [Path(each) for each in glob(name)]
    return any(text_kind(each) for each in found) or (not found and text_kind(path) is not None)


@dataclass(frozen=True)
class Split:
    """Documents of a source on two sides: those whose place in [0, 1) is below `share` validate.

    A place is 64 bits of a hash of `seed` and the document's text without the space around it (of its first part,
    where it has several).
    """

    source: TextSource
    share: float
    seed: int = SEED

    def val(self) -> Iterator[Part]:
        """The parts of the validation documents."""
        return (part for place, part in _placed(self.source, self.seed) if place < self.share)

    def calib(self) -> Iterator[Part]:
        """The parts of the calibration documents."""
        return (part for place, part in _placed(self.source, self.seed) if place >= self.share)

    @property
    def rule(self) -> str:
        """What sides depend on besides the documents, as text."""
        return f"seed {self.seed}, share {self.share!r}, parts {self.source.longest} x {self.source.document_parts}"


def split(source: TextSource, share: float = VAL_SHARE, seed: int = SEED) -> Split:
    """The split of a source; both sides hold something.

    Where so little is there that `share` leaves a side empty, the document nearest to it goes there; a document that
    is alone is cut, and its parts count as documents. Raises: DataError when even that is impossible, or when
    nothing but one side is met in the first `SEARCHED` characters.
    """
    places: set[float] = set()
    n_chars = 0
    for place, part in _placed(source, seed):
        places.add(place)
        if min(places) < share <= max(places):
            return Split(source, share, seed)
        n_chars += len(part.text)
        if n_chars > SEARCHED:
            raise DataError(
                f"the first {n_chars:,} characters of the text are all on one side of the split; "
                "say which text is for what: --val PATH --calib PATH"
            )
    if len(places) > 1:
        return Split(source, share_that_divides(min(places), max(places), share), seed)
    if not n_chars and source.files:
        raise DataError(f"{source.files[0]} holds no text; give another")
    if source.document_parts == 1 or not source.files:
        raise DataError("the text is too short to be split; give more, or --val PATH and --calib PATH")
    return split(replace(source, longest=max(1, n_chars // CUTS), document_parts=1), share, seed)


@cache
def _builtin() -> list[Document]:
    return builtin_corpus()


def _placed(source: TextSource, seed: int) -> Iterator[tuple[float, Part]]:
    """Every part, numbered within its document, with the document's place."""
    last: Part | None = None
    place = 0.0
    for part in source.parts():
        n = source.document_parts
        # Files of one name may follow each other: only a higher number goes on with a document.
        goes_on = last is not None and part.name == last.name and part.number > last.number
        if last is None or not goes_on or part.number // n != last.number // n:
            digest = hashlib.sha256(f"{seed}|{part.text.strip()}".encode()).digest()
            place = int.from_bytes(digest[:8], "big") / 2.0**64
        last = part
        yield place, replace(part, number=part.number % source.document_parts)
