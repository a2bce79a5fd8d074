"""What lies in a submission folder, without following, executing or fully reading anything.

Owns the bounds: number of entries, depth, and how much of a file is read. Links, pipes, sockets, devices and
unreadable files are listed as faults and never opened. What a file is follows from its first bytes; its name only
says its role.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pgpack.errors import DataError
from pgpack.formats.field.compressed import codec_of
from pgpack.formats.own.layout import MAGIC

from .caches import is_in_cache, is_left_by_tool, source_of
from .packed_code import sources
from .packed_logs import packed_text
from .pictures import is_noise, is_notebook
from .plain import as_text, is_plain_text, is_text
from .split import splits

MAX_ENTRIES, MAX_LEFT = 2000, 20_000  # files that are judged, and that tools leave behind
MAX_DEPTH = 6
TEXT_BYTES = 8 << 20  # read of a text file
STAGED_BYTES = 64 << 20  # larger files cannot be part of a 16 MB submission and are not copied
TRAIN, DECODER = "train_gpt.py", "decode.py"
REQUIRED = ("README.md", "submission.json", TRAIN)
MARKS = ((MAGIC, "pgpack"), (b"PGRP", "pergroup"), (b"BSHF", "bshf"), (b"PK\x03\x04", "zip"))
ARTIFACT_NAME = re.compile(r"\.(ptz|pgpack|int\d+\w*|br|zst|xz|lzma|pgrp)$")
NOT_ARTIFACTS = (".py", ".md", ".json", ".log", ".txt", ".svg", ".png", ".jpg", ".pdf", ".model", ".vocab", ".npz")
CHECKPOINTS = (".pt", ".pth", ".safetensors")
TOKENIZERS = (".model", ".vocab", ".tiktoken")
TABLES = (".csv", ".json", ".ipynb")  # that are logs where nothing else is one
NO_LOGS = (
    ".py",
    ".md",
    ".json",
    ".csv",
    ".svg",
    ".ipynb",
    ".yaml",
    ".yml",
    ".toml",
    ".html",
    ".sh",
    ".patch",
    ".diff",
)
IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"<svg", b"RIFF")
# bytes from which a file is weights, whatever it is called: a table of results, a tokenizer or a figure has less
LARGE, LARGE_ENCODED, LARGE_READABLE = 1 << 16, 1 << 18, 4 << 20
# bytes from which many small files of a sort are weights together
HEAPS = {
    "binary files": 1 << 20,
    "encoded texts": LARGE_ENCODED,
    "pictures": 6 << 20,
    "tokenizers": LARGE_READABLE,
    "texts": 8 << 20,
}
SAMPLE, SAMPLES = 4096, 64  # bytes, of a text of which they tell how much is encoded
CODE_BYTES = 1 << 20  # of a compressed file that may be nothing but a script
LFS = b"version https://git-lfs.github.com/spec/"
_SAYS_LOSS = re.compile(rb"val_bpb|val_loss|bits[ _]per[ _]byte|train_time|\bv\x00a\x00l\x00_\x00b\x00p\x00b", re.I)
_TABLE = re.compile(rb"\bval(?:idation)?[_ ]?(?:bpb|loss)\b", re.I)  # no val_loss_every, which a configuration has


@dataclass(frozen=True)
class Entry:
    """A file of the folder. `mark`: what its first bytes say ('' when they say nothing). Units: `n_bytes`."""

    name: str
    n_bytes: int
    mark: str

    @property
    def seed(self) -> int | None:
        return seed_of(self.name)


@dataclass(frozen=True)
class Heap:
    """Many small files of one sort, a key of `HEAPS`."""

    sort: str
    entries: tuple[Entry, ...]

    @property
    def n_bytes(self) -> int:
        return sum(entry.n_bytes for entry in self.entries)

    @property
    def could_be_read(self) -> bool:
        """Whether a person reads such files, or a program."""
        return self.sort in ("pictures", "texts")


@dataclass(frozen=True)
class Folder:
    """The entries in order of names; `faults`: name -> why an entry was left alone."""

    path: Path
    entries: tuple[Entry, ...]
    faults: tuple[tuple[str, str], ...]

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    @cached_property
    def artifacts(self) -> tuple[Entry, ...]:
        """Files that hold packed weights: by mark, by name where the codec has no mark (brotli), or by their size."""
        found = {entry.name for entry in self.entries if is_artifact(entry) or self._is_large(entry)}
        for parts in self.splits.values():
            found |= set(parts) if found & set(parts) else set()
        return tuple(entry for entry in self.entries if entry.name in found)

    @cached_property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Files that only a program reads and that are parts of one, in order, by the name that they share."""
        return splits(entry.name for entry in self.entries if entry.mark not in ("text", "code", "log", "image"))

    @cached_property
    def heaps(self) -> tuple[Heap, ...]:
        """Files of one sort, each too small to be weights, that together are not."""
        return tuple(heap for heap in self._others if len(heap.entries) > 1 and heap.n_bytes > HEAPS[heap.sort])

    @cached_property
    def small(self) -> tuple[Entry, ...]:
        """Files that only a program reads, each and together too small to be called weights."""
        left = (
            heap for heap in self._others if heap not in self.heaps and heap.sort in ("binary files", "encoded texts")
        )
        return tuple(entry for heap in left for entry in heap.entries)

    @cached_property
    def _others(self) -> tuple[Heap, ...]:
        """What is neither an artifact nor a log, by its sort."""
        known = {*self.artifacts, *self.logs}
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if entry not in known:
                found.setdefault(self._sort(entry), []).append(entry)
        return tuple(Heap(sort, tuple(found.get(sort, ()))) for sort in HEAPS)

    @property
    def pointers(self) -> tuple[Entry, ...]:
        """Pointers of git-lfs, whose files were not fetched."""
        return tuple(entry for entry in self.entries if entry.mark == "pointer")

    def _sort(self, entry: Entry) -> str:
        name = entry.name.lower()
        if name.endswith((".py", ".md")) or entry.mark == "code":
            return ""
        if entry.mark == "image":
            return "pictures"
        if name.endswith(TOKENIZERS):
            return "tokenizers"
        if entry.mark != "text":
            return "binary files"
        return "texts" if self._reads(entry) else "encoded texts"

    @cached_property
    def readme(self) -> str:
        """The README's name as it is written here: Readme.md is one too."""
        return next((entry.name for entry in self.entries if entry.name.lower() == REQUIRED[0].lower()), REQUIRED[0])

    @cached_property
    def logs(self) -> tuple[Entry, ...]:
        """Training logs: `*.log`, and other texts that speak of training by name or in a loss that they print; where
        there is none, tables and notebooks that do."""
        found = tuple(entry for entry in self.entries if self._is_log(entry))
        return found or tuple(entry for entry in self.entries if self._is_table(entry))

    def _is_table(self, entry: Entry) -> bool:
        name = PurePosixPath(entry.name.lower()).name
        return name.endswith(TABLES) and name != "submission.json" and self._says(_TABLE, entry)

    def _says(self, loss: re.Pattern[bytes], entry: Entry) -> bool:
        is_text = entry.mark == "text" or entry.name.lower().endswith(TABLES)
        found = is_text and loss.search(read_file(self.path / entry.name, TEXT_BYTES))
        return bool(found) and self._reads(entry)

    def _is_log(self, entry: Entry) -> bool:
        name = entry.name.lower()
        base = PurePosixPath(name).name
        if entry.mark == "log":
            return True
        if name.endswith(".log") or re.search(r"(train|seed|log)[^/]*\.txt$", name):
            return self._reads(entry)
        if name.endswith(NO_LOGS) or base.startswith(("requirements", "license", "licence", "readme")):
            return False
        return self._says(_SAYS_LOSS, entry)

    def _reads(self, entry: Entry) -> bool:
        """Whether a file that is called a text is one, as far as samples show."""
        head, *others = samples(self.path / entry.name, entry.n_bytes)
        encoded = sum(not is_plain_text(sample) for sample in others)
        return is_plain_text(head) and encoded * entry.n_bytes < LARGE_ENCODED * max(1, len(others))

    def _is_large(self, entry: Entry) -> bool:
        """Whether it is too large to be anything but weights; images, tokenizers and texts may have some size."""
        name = entry.name.lower()
        if name.endswith(".py") or entry.mark == "code" or self._is_log(entry):
            return False
        if name.endswith(".md") and self._reads(entry):
            return False
        if entry.mark == "image" or name.endswith(TOKENIZERS) or (entry.mark == "text" and self._reads(entry)):
            return entry.n_bytes > LARGE_READABLE
        return entry.n_bytes >= (LARGE_ENCODED if entry.mark == "text" else LARGE)

    def text(self, name: str) -> str | None:
        """A text file's contents without a mark of order, None when it is not there. What is no text is replaced."""
        if self.entry(name) is None:
            return None
        return as_text(read_file(self.path / name, TEXT_BYTES))

    def log_text(self, entry: Entry) -> str:
        """A log's contents, unpacked; of a long one its start and its end."""
        if entry.mark == "log":
            return as_text(self.contents(entry))
        if entry.n_bytes <= LARGE_READABLE:
            return self.text(entry.name) or ""
        with (self.path / entry.name).open("rb") as file:
            head = file.read(LARGE_READABLE // 4)
            file.seek(entry.n_bytes - LARGE_READABLE // 4 * 3)
            return f"{as_text(head)}\n{as_text(file.read())}"

    def contents(self, entry: Entry) -> bytes:
        """The bytes of a text, unpacked where it is a log that was compressed."""
        data = read_file(self.path / entry.name, STAGED_BYTES)
        return packed_text(data) if entry.mark == "log" else data

    def stage(self, target: Path) -> None:
        """Copy every readable file to `target`, so that nothing that runs there can reach the folder itself."""
        for entry in self.entries:
            if entry.n_bytes <= STAGED_BYTES:
                path = target / entry.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(read_file(self.path / entry.name, STAGED_BYTES))


def seed_of(name: str) -> int | None:
    """The seed that a file's name speaks of, or else that of its folder: train_seed42.log, seed_42/model.bin."""
    parts = reversed(PurePosixPath(name).parts)
    found = next((each for part in parts if (each := re.search(r"seed[_-]?(\d{1,9})", part))), None)
    return int(found[1]) if found else None


def scan(path: Path) -> Folder:
    """The folder at `path`. Raises DataError when it is no folder."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the folder of a submission")
    entries: list[Entry] = []
    faults: list[tuple[str, str]] = []
    left = 0
    for name, fault in _walk(path, "", 0):
        if len(entries) + len(faults) >= MAX_ENTRIES or left > MAX_LEFT:
            faults.append(("", f"more than {MAX_ENTRIES:,} entries; a submission has a handful"))
            break
        try:
            if not fault:
                entry = _entry(path, name)
                left += entry is None
                entries += [] if entry is None else [entry]
        except OSError as error:
            fault = f"it cannot be read ({error.strerror or error})"
        if fault:
            faults.append((name, fault))
    return Folder(path, tuple(sorted(entries, key=lambda entry: entry.name)), tuple(sorted(faults)))


def _entry(root: Path, name: str) -> Entry | None:
    """A file of the folder, None when a tool has left it behind."""
    path = root / name
    n_bytes = path.lstat().st_size
    if is_in_cache(name):
        head = read_file(path, 4096)
        is_small = n_bytes < LARGE and ".git" in name.split("/") and (not head or is_plain_text(head))
        if is_small or is_left_by_tool(name, head, n_bytes, (root / source_of(name)).is_file()):
            return None
    return Entry(name, n_bytes, _content(path, name, n_bytes))


def _content(path: Path, name: str, n_bytes: int) -> str:
    """What a file's bytes say: 'code' and 'log' for packed ones alone, 'text', 'image', else `mark_of` its start."""
    head = read_file(path, 4096)
    mark = mark_of(head[:16])
    if head.startswith(IMAGES):
        return "" if is_noise(head, n_bytes) else "image"
    if name.endswith(".ipynb") and is_notebook(read_file(path, TEXT_BYTES)):
        return "image"
    if is_text(head):
        return "pointer" if head.startswith(LFS) else mark or "text"
    lower = name.lower()
    if mark == "pgpack" or n_bytes > CODE_BYTES or lower.endswith((".py", ".npz", *CHECKPOINTS)):
        return mark
    data = read_file(path, CODE_BYTES)
    if (mark or ARTIFACT_NAME.search(lower)) and sources(data):
        return "code"
    return "log" if _is_packed_log(data) else mark


def _is_packed_log(data: bytes) -> bool:
    """Whether compressed bytes are a text that prints a loss, plain throughout."""
    text = packed_text(data)
    spread = range(0, len(text), max(SAMPLE, len(text) // SAMPLES))
    return bool(_SAYS_LOSS.search(text)) and all(is_plain_text(text[at : at + SAMPLE]) for at in spread)


def read_file(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a regular file. Raises OSError for anything else, without waiting for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.read(limit)


def samples(path: Path, n_bytes: int) -> Iterator[bytes]:
    """The start of a file, and of a long one as many places of it as are told apart. Raises OSError."""
    yield read_file(path, SAMPLE)
    if n_bytes < LARGE_ENCODED:
        return
    with path.open("rb") as file:
        for at in range(1, SAMPLES + 1):
            file.seek(at * (n_bytes - SAMPLE) // SAMPLES)
            yield file.read(SAMPLE)


def _walk(root: Path, below: str, depth: int) -> Iterator[tuple[str, str]]:
    """(name, fault or '') of everything that is not a folder."""
    try:
        found = os.scandir(root / below)
    except OSError as error:
        yield below, f"the folder cannot be read ({error.strerror})"
        return
    with found:
        for item in found:
            name = f"{below}/{item.name}" if below else item.name
            if not name.isprintable():
                yield ascii(name), "its name has characters that cannot be printed"
            elif item.is_symlink():
                yield name, _link_fault(root, name)
            elif item.is_dir(follow_symlinks=False):
                if depth + 1 > MAX_DEPTH:
                    yield name, f"folders are nested more than {MAX_DEPTH} deep"
                else:
                    yield from _walk(root, name, depth + 1)
            elif item.is_file(follow_symlinks=False):
                yield name, ""
            else:
                yield name, "it is a pipe, socket or device, not a file"


def _link_fault(root: Path, name: str) -> str:
    target = os.path.realpath(root / name)
    inside = target.startswith(os.path.realpath(root) + os.sep)
    where = "another file" if inside else "a file outside the folder"
    return f"it is a link to {where}; put the file itself there"


def mark_of(head: bytes) -> str:
    """What the first bytes of a file say about it."""
    codec = codec_of(head)
    return next((kind for mark, kind in MARKS if head.startswith(mark)), "" if codec == "brotli" else codec)


def is_artifact(entry: Entry) -> bool:
    """Whether a file is packed weights by its first bytes or its name."""
    name = entry.name.lower()
    if name.endswith((*NOT_ARTIFACTS, *CHECKPOINTS)) or (entry.mark == "zip" and not name.endswith(".ptz")):
        return False
    if entry.mark == "pointer":
        return False
    if entry.mark in ("code", "text", "image", "log"):
        return bool(ARTIFACT_NAME.search(name)) and entry.mark == "text"
    return bool(entry.mark) or bool(ARTIFACT_NAME.search(name))
