"""Bytes of every tensor in every artifact of a study: DIR/tensors.jsonl, beside the journal.

    {"names": ["blocks.0.attn.c_q.weight", ...], "crc32": "..."}   the tensors that the next rows are of
    {"key": "...", "n_bytes": [31414, ...], "crc32": "..."}        a trial's artifact; [] where its format tells none

Owns the file. What lies in no tensor is left out. A row's checksum begins with that of its names, so that
it is never read with others'; lines of older programs have none. What is damaged is named and counts as not there: a
sweep that goes on measures such trials again. It is written by the process that holds the journal's lock.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgpack.files import checksum_fits, with_checksum
from pgpack.tables import counted

from .files import refusing, replace_study_file
from .trial import Trial

TENSORS_FILE = "tensors.jsonl"


@dataclass(frozen=True)
class Kept:
    """The file as it was found. `rows`: key of a trial -> name of a tensor -> its bytes; `damaged`: what is wrong
    with each line that is none, a torn last one too; `whole`: all others as they are."""

    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    whole: bytes = b""

    def lost(self, trials: Iterable[Trial]) -> frozenset[str]:
        """Keys of the trials that damaged lines may have been of; none where there are no such lines."""
        return frozenset(each.key for each in trials if each.ok and each.key not in self.rows and self.damaged)

    def sentences(self, trials: Iterable[Trial]) -> tuple[str, ...]:
        """What a run that goes on with these trials measures again, for people; mostly nothing."""
        if not (n := len(self.lost(trials))):
            return ()
        lines = counted(len(self.damaged), "damaged line")
        return (f"{lines} of {TENSORS_FILE}: {counted(n, 'trial')} without bytes of tensors, to measure again",)


class TensorBytes:
    """The file in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / TENSORS_FILE
        self._names: list[str] = []
        self._start: int | None = None

    def append(self, key: str, n_bytes: Mapping[str, int]) -> None:
        """Add the tensors of a trial's artifact. Raises: StudyError when the disk refuses."""
        begun, lines = self._start is not None, ""
        names = list(n_bytes) if n_bytes or not begun else self._names
        if names != self._names or not begun:
            lines = with_checksum(json.dumps({"names": names}))
            self._names, self._start = names, _start(lines)
            lines += "\n"
        row = json.dumps({"key": key, "n_bytes": list(n_bytes.values())})
        lines += with_checksum(row, self._start or 0) + "\n"
        with refusing(self._path, "write it"), self._path.open("a", encoding="utf-8") as file:
            file.write(lines if file.tell() == 0 or begun else f"\n{lines}")  # behind what a crash tore

    def of(self) -> Mapping[str, Mapping[str, int]]:
        """Key of a trial -> name of a tensor -> its bytes; empty where nothing is kept."""
        return {key: n_bytes for key, n_bytes in self.scan().rows.items() if n_bytes}

    def scan(self) -> Kept:
        """What is in the file, damaged lines too; nothing where it cannot be read."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except OSError:
            return Kept()
        reader = _Reader()
        for number, line in enumerate(lines, start=1):
            if line:
                reader.read(f"{self._path} line {number}", line, number == len(lines))
        return Kept(reader.rows, tuple(reader.damaged), b"".join(reader.whole))

    def tidy(self) -> None:
        """Take out the lines that are damaged. Raises: StudyError when the disk refuses."""
        if (found := self.scan()).damaged:
            replace_study_file(self._path, found.whole)


class _Reader:
    """Takes the lines one after the other. `names`: those of the next rows, None behind a line that may have been
    others; `start`: where the checksums of the next rows begin."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, int]] = {}
        self.damaged: list[str] = []
        self.whole: list[bytes] = []
        self.names: list[str] = []
        self.start = 0
        self.sure = True

    def read(self, place: str, line: bytes, torn: bool) -> None:
        try:
            if torn:
                raise ValueError("is torn")
            self._take(line.decode())
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.sure = False
            self.damaged.append(f"{place}: no row of bytes ({error})")
            return
        self.whole.append(line + b"\n")

    def _take(self, text: str) -> None:
        row: dict[str, Any] = json.loads(text)
        keys = tuple(row)
        if keys in (("names",), ("names", "crc32")):
            if "crc32" in row and not checksum_fits(text):
                raise ValueError("its checksum is that of another text")
            self.names, self.start, self.sure = [str(name) for name in row["names"]], _start(text), True
            return
        if keys not in (("key", "n_bytes"), ("key", "n_bytes", "crc32")):
            raise ValueError("its keys are others")
        if not (checksum_fits(text, self.start) if "crc32" in row else self.sure):
            raise ValueError("its checksum, or that of its names, is that of another text")
        n_bytes = [int(n) for n in row["n_bytes"]]
        self.rows[str(row["key"])] = dict(zip(self.names, n_bytes, strict=True)) if n_bytes else {}


def _start(names_line: str) -> int:
    """Where the checksums of the rows behind a line of names begin."""
    return zlib.crc32(names_line.encode())
