"""The study directory: an append-only journal of trials and the card that says what they measure.

    DIR/study.json     the card (`pgpack.study.card`): checkpoints, evaluator, budget, space (replaced atomically)
    DIR/trials.jsonl   one Trial per line, in the order of measurement (only ever appended to)
    DIR/trials.lock    empty but for the writer's process id; locked while somebody writes
    DIR/trials.damaged lines of trials.jsonl that were damaged, as they were found; where there were any

A line counts once its newline is on disk. A last line without one was torn by a crash: readers pass over it, so
`kill -9` costs at most the trial in flight. Any other line that is no trial is damaged: readers refuse it. A run that
goes on takes both out (`mend`) and measures those trials again. The lock is `flock`: the system drops it when its
holder dies. Nothing here depends on the clock: the order of lines is the order of measurement, whatever their dates
say.
JOURNAL.md beside this file is the schema for readers in other programs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from pgpack.errors import StudyError
from pgpack.files import checksum_fits, sync, write_all
from pgpack.tables import counted

from .files import refused, refusing, replace_study_file
from .trial import NewerRow, Trial

TRIALS_FILE = "trials.jsonl"
DAMAGED_FILE = "trials.damaged"
_TAIL_BLOCK = 1 << 16


@dataclass(frozen=True)
class Lines:
    """A journal as it was found. `damaged`: what is wrong with each complete line that is no trial; `card`: with the
    card beside it. Units: `torn_bytes` of a torn last line."""

    trials: tuple[Trial, ...]
    damaged: tuple[str, ...] = ()
    torn_bytes: int = 0
    card: str = ""

    def sentences(self) -> tuple[str, ...]:
        """What a run that goes on takes out of it, for people; mostly nothing."""
        said = [self.card] if self.card else []
        if self.damaged:
            n = counted(len(self.damaged), "damaged line")
            said.append(f"{n} of {TRIALS_FILE} put aside in {DAMAGED_FILE}; what was measured there counts as new")
        if self.torn_bytes:
            said.append(
                f"a last line of {self.torn_bytes:,} bytes, torn by a crash, is cut off; that trial counts as new"
            )
        return tuple(said)


class Journal:
    """The trials of one `trials.jsonl`. Anybody may `read`; to `append`, hold its lock (a `with` block)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = Lines(())
        """What `mend` found."""
        self._lock_fd: int | None = None

    def read(self) -> tuple[Trial, ...]:
        """All complete rows in order; empty when there is no file yet.

        Raises: StudyError naming file and line when a complete line is not a trial.
        """
        found = self.scan()
        if found.damaged:
            raise StudyError(f"{found.damaged[0]}; the same `pgpack sweep` puts it aside and measures it again")
        return found.trials

    def scan(self) -> Lines:
        """What is in it, damaged and torn lines too.

        Raises: StudyError when it cannot be read, or naming file and line when a newer pgpack wrote a row.
        """
        return _found(self._lines())

    def mend(self, card: str = "") -> Lines:
        """Take out every line that is no trial, a damaged one into trials.damaged; returns what was `found`. `card`:
        what was wrong with the card, to be told with it.

        Raises: StudyError as `scan`, or when the lock is not held or the disk refuses. Nothing is lost then.
        """
        self._require_lock("mend")
        lines = list(self._lines())
        self.found = found = replace(_found(lines), card=card)
        if found.damaged:
            aside = self.path.with_name(DAMAGED_FILE)
            with refusing(aside, "read it"):
                kept = aside.read_bytes() if aside.exists() else b""
            new = [line for line, what in lines if isinstance(what, str) and line not in kept]  # killed here before
            replace_study_file(aside, kept + b"".join(new))
        if found.damaged or found.torn_bytes:
            replace_study_file(self.path, b"".join(line for line, what in lines if isinstance(what, Trial)))
        return found

    def _lines(self) -> Iterator[tuple[bytes, Trial | str | None]]:
        """Each line with its trial, or what is wrong with it; None for one without its end."""
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    yield line, self._parse(number, line[:-1]) if line.endswith(b"\n") else None
        except FileNotFoundError:
            return
        except OSError as error:
            raise StudyError(f"{self.path}: cannot read it: {error.strerror or error}") from error

    def _parse(self, number: int, line: bytes) -> Trial | str:
        place = f"{self.path} line {number}"
        try:
            text = line.decode()
            return Trial.from_json(text)
        except UnicodeDecodeError:
            return f"{place}: not UTF-8 text"
        except NewerRow as error:
            if checksum_fits(text) is False:  # its number was damaged
                return f"{place}: {error}"
            raise StudyError(f"{place}: {error}") from None
        except StudyError as error:
            return f"{place}: {error}"

    def _require_lock(self, deed: str) -> None:
        if self._lock_fd is None:
            raise StudyError(f"{self.path}: {deed} needs the lock; open the journal with a `with` block")

    def append(self, trial: Trial) -> None:
        """Write one row behind the last whole one and return when it is on disk.

        Raises: StudyError when the lock is not held, or the disk refuses the row (which is then taken back).
        """
        self._require_lock("append")
        line = trial.to_json().encode() + b"\n"
        with refusing(self.path, "append a trial"):
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                end = _end_of_last_line(fd)
                os.ftruncate(fd, end)
                os.lseek(fd, end, os.SEEK_SET)
                try:
                    write_all(fd, line)
                    os.fsync(fd)
                except OSError:
                    with contextlib.suppress(OSError):  # what stays is a torn line, which readers pass over
                        os.ftruncate(fd, end)
                    raise
            finally:
                os.close(fd)
            if end == 0:
                sync(self.path.parent)

    def __enter__(self) -> Journal:
        import fcntl  # POSIX only, and only writers need it

        lock_path = self.path.with_suffix(".lock")
        with refusing(lock_path, "open it to write"):
            fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StudyError(
                f"{self.path} is being written by another process (pid {holder}); "
                "wait for it to end or give another directory"
            ) from None
        except OSError as error:
            os.close(fd)
            raise refused(lock_path, "lock it", error) from error
        self._lock_fd = fd
        with contextlib.suppress(OSError):  # the id is for people; a full disk must not keep a study shut
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _found(lines: Iterable[tuple[bytes, Trial | str | None]]) -> Lines:
    trials, damaged, torn = [], [], 0
    for line, what in lines:
        if isinstance(what, Trial):
            trials.append(what)
        elif isinstance(what, str):
            damaged.append(what)
        else:
            torn = len(line)
    return Lines(tuple(trials), tuple(damaged), torn)


def _end_of_last_line(fd: int) -> int:
    """Offset just behind the last newline; 0 when there is none."""
    position = os.lseek(fd, 0, os.SEEK_END)
    while position > 0:
        start = max(0, position - _TAIL_BLOCK)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0
