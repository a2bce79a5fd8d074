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
from pathlib import Path, PurePosixPath

from pgpack.errors import DataError
from pgpack.formats.field.compressed import codec_of
from pgpack.formats.own.layout import MAGIC

MAX_ENTRIES = 2000
MAX_DEPTH = 6
TEXT_BYTES = 8 << 20  # read of a text file
STAGED_BYTES = 64 << 20  # larger files cannot be part of a 16 MB submission and are not copied
TRAIN, DECODER = "train_gpt.py", "decode.py"
REQUIRED = ("README.md", "submission.json", TRAIN)
MARKS = ((MAGIC, "pgpack"), (b"PGRP", "pergroup"), (b"BSHF", "bshf"), (b"PK\x03\x04", "zip"))
ARTIFACT_NAME = re.compile(r"\.(ptz|pgpack|int\d+\w*|br|zst|xz|lzma|pgrp)$")
NOT_ARTIFACTS = (".py", ".md", ".json", ".log", ".txt", ".svg", ".png", ".jpg", ".pdf", ".model", ".vocab", ".npz")
CHECKPOINTS = (".pt", ".pth", ".safetensors")


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
class Folder:
    """The entries in order of names; `faults`: name -> why an entry was left alone."""

    path: Path
    entries: tuple[Entry, ...]
    faults: tuple[tuple[str, str], ...]

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    @property
    def artifacts(self) -> tuple[Entry, ...]:
        """Files that hold packed weights: by mark, or by name where the codec has no mark (brotli)."""
        return tuple(entry for entry in self.entries if _is_artifact(entry))

    @property
    def logs(self) -> tuple[Entry, ...]:
        """Training logs: `*.log`, and `*.txt` whose name speaks of training or a seed."""
        return tuple(
            entry
            for entry in self.entries
            if entry.name.endswith(".log") or re.search(r"(train|seed|log)[^/]*\.txt$", entry.name)
        )

    def text(self, name: str) -> str | None:
        """A text file's contents, None when it is not there. Bytes that are not UTF-8 are replaced."""
        if self.entry(name) is None:
            return None
        return read_file(self.path / name, TEXT_BYTES).decode("utf-8", "replace")

    def stage(self, target: Path) -> None:
        """Copy every readable file to `target`, so that nothing that runs there can reach the folder itself."""
        for entry in self.entries:
            if entry.n_bytes <= STAGED_BYTES:
                path = target / entry.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(read_file(self.path / entry.name, STAGED_BYTES))


def seed_of(name: str) -> int | None:
    """The seed that a file's name speaks of: train_seed42.log, model_seed42.pgpack, seed_42.txt."""
    found = re.search(r"seed[_-]?(\d{1,9})", PurePosixPath(name).name)
    return int(found[1]) if found else None


def scan(path: Path) -> Folder:
    """The folder at `path`. Raises DataError when it is no folder."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the folder of a submission")
    entries: list[Entry] = []
    faults: list[tuple[str, str]] = []
    for name, fault in _walk(path, "", 0):
        if len(entries) + len(faults) >= MAX_ENTRIES:
            faults.append(("", f"more than {MAX_ENTRIES:,} entries; a submission has a handful"))
            break
        try:
            if not fault:
                mark = mark_of(read_file(path / name, 16))
                entries.append(Entry(name, (path / name).lstat().st_size, mark))
        except OSError as error:
            fault = f"it cannot be read ({error.strerror or error})"
        if fault:
            faults.append((name, fault))
    return Folder(path, tuple(sorted(entries, key=lambda entry: entry.name)), tuple(sorted(faults)))


def read_file(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a regular file. Raises OSError for anything else, without waiting for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.read(limit)


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
                if item.name in (".git", "__pycache__"):
                    continue
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


def _is_artifact(entry: Entry) -> bool:
    name = entry.name.lower()
    if name.endswith((*NOT_ARTIFACTS, *CHECKPOINTS)) or (entry.mark == "zip" and not name.endswith(".ptz")):
        return False
    return bool(entry.mark) or bool(ARTIFACT_NAME.search(name))
