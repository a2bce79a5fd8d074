"""The study directory: an append-only journal of trials and the card that says what they measure.

    DIR/study.json     StudyMeta: checkpoint, evaluator, calibration, budget, space (replaced atomically)
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
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pgpack.errors import StudyError
from pgpack.sweep.storage import refused, refusing, replace_file, sync_directory, write_all
from pgpack.sweep.trial import SCHEMA_VERSION, Trial, read_row

STUDY_FILE = "study.json"
TRIALS_FILE = "trials.jsonl"
CARD_SINCE: Mapping[str, int] = {}  # as `trial.SINCE`, of the card
_TAIL_BLOCK = 1 << 16
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "float | None": (float, int, type(None)),
}


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
                sync_directory(self.path.parent)

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


@dataclass(frozen=True, kw_only=True)
class StudyMeta:
    """What a study measures, as `study.json` keeps it.

    `checkpoint` is the path as the user gave it and `data_flags` the flags (`--calib ...`, `--model ...`)
    that commands need beside it, so that a report can print lines to run. `space` is the search space as text.
    Units: `budget` and `fp32_n_bytes` bytes; `fp32_bpb` bits per byte and `fp32_nats` nats per token of the
    unpacked model under the same evaluator; None where unknown.

    Raises: StudyError when a field has the wrong type.
    """

    checkpoint: str
    checkpoint_digest: str
    evaluator_digest: str
    pgpack_version: str
    created: str
    calibration_digest: str | None = None
    budget: int | None = None
    space: str = ""
    data_flags: str = ""
    fp32_bpb: float | None = None
    fp32_nats: float | None = None
    fp32_n_bytes: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, kinds = getattr(self, field.name), _KINDS[str(field.type)]
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise StudyError(f"study card field {field.name} is {value!r}; expected {field.type}")

    def to_json(self) -> str:
        """The card as indented JSON text; `from_json` is its exact inverse."""
        return json.dumps({"v": SCHEMA_VERSION, **dataclasses.asdict(self)}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> StudyMeta:
        """The card that `to_json` wrote. Raises: StudyError for anything else."""
        return cls(**read_row(text, tuple(field.name for field in dataclasses.fields(cls)), "study card", CARD_SINCE))


@dataclass(frozen=True)
class Study:
    """A study as read at one moment: one trial per key, the latest row of a key in the place of its first."""

    directory: Path
    meta: StudyMeta
    trials: tuple[Trial, ...]

    @classmethod
    def load(cls, directory: Path) -> Study:
        """The study in `directory`, without taking the lock (safe while a sweep runs).

        Raises: StudyError when there is no study or it cannot be read.
        """
        meta = _read_meta(directory)
        if meta is None:
            raise StudyError(f"{directory} holds no {STUDY_FILE}; give the --out directory of a `pgpack sweep`")
        return cls(directory, meta, latest_by_key(Journal(directory / TRIALS_FILE).read()))

    @property
    def finished_keys(self) -> frozenset[str]:
        """Keys that need no new measurement: every row counts, failed ones too."""
        return frozenset(trial.key for trial in self.trials)


@contextlib.contextmanager
def recording(
    directory: Path, meta: StudyMeta, complete: Callable[[StudyMeta], StudyMeta] = lambda card: card
) -> Iterator[tuple[Study, Journal]]:
    """Create or continue the study in `directory`; yields it as it stands and its journal, locked to append to.

    A new budget, space, calibration or pgpack version is taken over into the card (trial keys tell their
    rows apart). `complete` fills in what takes long to find, such as the fp32 loss, once the study is known to be
    the right one and nobody else's.
    Raises: StudyError when another process writes here, when the directory cannot be written, or when it belongs to
    another checkpoint or evaluator: losses of different models or texts must never share a frontier by accident.
    """
    with refusing(directory, "create it"):
        directory.mkdir(parents=True, exist_ok=True)
    with Journal(directory / TRIALS_FILE) as journal:
        before = _read_meta(directory)
        card = complete(meta if before is None else _continued(directory, before, meta))
        if card != before:
            replace_file(directory / STUDY_FILE, card.to_json().encode())
        yield Study(directory, card, latest_by_key(journal.read())), journal


def latest_by_key(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """One trial per key: the latest row, in the order in which keys first appeared."""
    return tuple({trial.key: trial for trial in trials}.values())


def _continued(directory: Path, before: StudyMeta, now: StudyMeta) -> StudyMeta:
    for what, old, new in (
        ("checkpoint", before.checkpoint_digest, now.checkpoint_digest),
        ("evaluator", before.evaluator_digest, now.evaluator_digest),
    ):
        if old != new:
            hint = _other_checkpoint(before, now) if what == "checkpoint" else _other_evaluator(before, now)
            raise StudyError(f"{directory} is a study of {what} {old}, but this run has {what} {new}: {hint}")
    return dataclasses.replace(
        now,
        created=before.created,
        fp32_bpb=before.fp32_bpb if now.fp32_bpb is None else now.fp32_bpb,
        fp32_nats=before.fp32_nats if now.fp32_nats is None else now.fp32_nats,
        fp32_n_bytes=before.fp32_n_bytes if now.fp32_n_bytes is None else now.fp32_n_bytes,
    )


def _other_checkpoint(before: StudyMeta, now: StudyMeta) -> str:
    """What differs, and what to do."""
    if before.checkpoint == now.checkpoint:
        return f"{now.checkpoint} has changed since {before.created}; give the new weights another --out directory"
    return (
        f"it began with {before.checkpoint}, this run has {now.checkpoint}; give that one or another --out directory"
    )


def _other_evaluator(before: StudyMeta, now: StudyMeta) -> str:
    """What differs, and what to do."""
    old, new = (card.data_flags or "no text flags" for card in (before, now))
    if old != new:
        return f"it began with {old}, this run has {new}; repeat those flags or give another --out directory"
    pgpack = "" if before.pgpack_version == now.pgpack_version else f" (pgpack was {before.pgpack_version})"
    return (
        "the flags are the same, so the text, the tokenizer or the way of evaluating behind them has changed"
        f"{pgpack}; bring them back or give another --out directory"
    )


def _read_meta(directory: Path) -> StudyMeta | None:
    path = directory / STUDY_FILE
    try:
        return StudyMeta.from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (StudyError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: {error}") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot read it: {error.strerror or error}") from error


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
