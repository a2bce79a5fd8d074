"""What a run tells while it lasts: a row of JSON per step; and what tells it to stop.

Owns the log file beside the checkpoint (`OUT.log.jsonl`), whose lock says that a run is under way, and the signals of
a run.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pgpack.errors import DataError
from pgpack.files import checksum_fits, with_checksum, write_all

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class StepRow:
    """One line of the log. Units: loss in nats per token, lr is Muon's, elapsed_s over all sessions of the run."""

    step: int
    loss: float
    lr: float
    tokens: int
    elapsed_s: float
    val_bpb: float | None = None

    def as_json(self) -> str:
        """The row as a line, which ends in a checksum."""
        row = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return with_checksum(json.dumps(row))

    @classmethod
    def from_json(cls, line: str) -> StepRow:
        """The row that `as_json` wrote, of older programs too, which wrote no checksum. Raises: ValueError."""
        row = json.loads(line)
        known = (
            isinstance(row, dict) and row.keys() <= {*_FIELDS, "crc32"} and {"step", "loss", "tokens"} <= row.keys()
        )
        if not known or ("crc32" in row and not checksum_fits(line)):
            raise ValueError("no row of a log, or a damaged one")
        values = {name: row.get(name, 0.0) for name in ("loss", "lr", "elapsed_s")}
        bpb = row.get("val_bpb")
        if not all(
            isinstance(value, int | float) for value in (*values.values(), row["tokens"], row["step"], bpb or 0)
        ):
            raise ValueError("no row of a log: what should be a number is none")
        return cls(row["step"], tokens=row["tokens"], val_bpb=bpb, **values)


_FIELDS = tuple(field.name for field in dataclasses.fields(StepRow))


def read_log(path: Path) -> Iterator[tuple[bytes, StepRow | None]]:
    """Each line of a log with its row, None where it is damaged; a last line that a kill has torn is left out."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            row = StepRow.from_json(line.removesuffix(b"\n").decode())
        except (ValueError, RecursionError):
            row = None
        if line.endswith(b"\n"):
            yield line, row


def log_path(checkpoint: Path) -> Path:
    """Where the run that writes `checkpoint` keeps its log: OUT.log.jsonl."""
    return checkpoint.with_suffix(".log.jsonl")


@contextmanager
def open_log(path: Path) -> Iterator[RunLog]:
    """The log of a run, locked: while it is open no other run writes to the same checkpoint.

    Raises: DataError while another process has it open; OSError that names it.
    """
    import fcntl  # POSIX only, and only runs need it

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{path} is being written by another run; wait for it to end or give another -o"
            ) from None
        except OSError:  # a file system without locks is taken as it is
            pass
        yield RunLog(path, file)


def refuse_running(path: Path) -> None:
    """Raises: DataError while a run writes the log at `path`."""
    if path.exists():
        with open_log(path):
            pass


@dataclass(frozen=True)
class RunLog:
    """Rows as JSON lines, each on its way to the disk before the next step."""

    path: Path
    file: IO[bytes]

    def go_on_behind(self, step: int) -> None:
        """Cut off the rows after `step`, which a resumed run writes again, and what is no row behind the others."""
        at = end = 0
        for line, row in read_log(self.path) if step else ():
            if row is not None and row.step > step:
                break
            at += len(line)
            end = end if row is None else at
        self.file.truncate(end)

    def write(self, row: StepRow) -> None:
        """Raises: OSError that names the file."""
        try:
            write_all(self.file.fileno(), row.as_json().encode() + b"\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM or SIGHUP sets, so that a step is never cut in half; a second one interrupts.

    A signal that the caller has this process ignore stays ignored.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
