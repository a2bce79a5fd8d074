"""The study directory: an append-only journal of trials and the card that says what they measure.

    DIR/study.json     the card (`pgpack.study.card`): checkpoints, evaluator, budget, space (replaced atomically)
    DIR/trials.jsonl   one Trial per line, in the order of measurement (only ever appended to)
    DIR/trials.lock    empty but for the writer's process id; locked while somebody writes

A line counts once its newline is on disk. A last line without one was torn by a crash: readers pass over it
and the next append cuts it off, so `kill -9` costs at most the trial in flight. Any other line that does
not parse is an error, never skipped. The lock is `flock`: the system drops it when its holder dies. Nothing here
depends on the clock: the order of lines is the order of measurement, whatever their dates say.
JOURNAL.md beside this file is the schema for readers in other programs.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from pgpack.errors import StudyError
from pgpack.files import refused, refusing, sync, write_all

from .trial import Trial

TRIALS_FILE = "trials.jsonl"
_TAIL_BLOCK = 1 << 16


class Journal:
    """The trials of one `trials.jsonl`. Anybody may `read`; to `append`, hold its lock (a `with` block)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd: int | None = None

    def read(self) -> tuple[Trial, ...]:
        """All complete rows in order; empty when there is no file yet.

        Raises: StudyError naming file and line when a complete line is not a trial.
        """
        try:
            with self.path.open("rb") as file:
                complete = (line for line in file if line.endswith(b"\n"))  # only the last line can lack its end
                return tuple(self._parse(number, line[:-1]) for number, line in enumerate(complete, start=1))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StudyError(f"{self.path}: cannot read it: {error.strerror or error}") from error

    def damaged(self) -> tuple[str, ...]:
        """What `read` says of each complete line that is no trial. Raises: OSError when it cannot be read."""
        found = []
        for number, line in enumerate(self.path.read_bytes().split(b"\n")[:-1], start=1):
            try:
                self._parse(number, line)
            except StudyError as error:
                found.append(str(error))
        return tuple(found)

    def torn_bytes(self) -> int:
        """Length of the torn last line, 0 when there is none."""
        try:
            with self.path.open("rb") as file:
                return file.seek(0, os.SEEK_END) - _end_of_last_line(file.fileno())
        except FileNotFoundError:
            return 0

    def _parse(self, number: int, line: bytes) -> Trial:
        try:
            return Trial.from_json(line.decode())
        except UnicodeDecodeError:
            raise StudyError(f"{self.path} line {number}: not UTF-8 text; repair or delete that line") from None
        except StudyError as error:
            raise StudyError(f"{self.path} line {number}: {error}; repair or delete that line") from None

    def append(self, trial: Trial) -> None:
        """Write one row and return when it is on disk; a torn last line is cut off first.

        Raises: StudyError when the lock is not held, or the disk refuses the row (which is then taken back).
        """
        if self._lock_fd is None:
            raise StudyError(f"{self.path}: append needs the lock; open the journal with a `with` block")
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
