"""A study as read at one moment, and the way to write one: recorded under a lock, one row a trial."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgpack.errors import StudyError
from pgpack.files import refusing, replace_study_file

from .card import STUDY_FILE, StudyMeta, continued, read_card
from .journal import TRIALS_FILE, Journal
from .trial import Trial


@dataclass(frozen=True)
class Study:
    """A study as read at one moment: one trial per key, the latest row of a key in the place of its first.

    `partial`: what a search measured on a part of the text; these count for that search only. `seeds`: in a study
    that `pgpack.study.seeds.merged` made of several checkpoints, what stands behind each trial, by its key.
    """

    directory: Path
    meta: StudyMeta
    trials: tuple[Trial, ...]
    partial: tuple[Trial, ...] = ()
    seeds: Mapping[str, Across] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path, meta: StudyMeta, rows: tuple[Trial, ...]) -> Study:
        """The study that these rows of a journal make."""
        latest = latest_by_key(rows)
        whole = tuple(trial for trial in latest if trial.on_full_text)
        return cls(directory, meta, whole, tuple(trial for trial in latest if not trial.on_full_text))

    def with_rows(self, rows: tuple[Trial, ...]) -> Study:
        """The study after these rows were appended to its journal."""
        return Study.of(self.directory, self.meta, (*self.trials, *self.partial, *rows))

    def without_failed(self) -> Study:
        """The study as if what failed had not been tried."""
        return Study.of(self.directory, self.meta, tuple(t for t in (*self.trials, *self.partial) if t.ok))

    @classmethod
    def load(cls, directory: Path) -> Study:
        """The study in `directory`, without taking the lock (safe while a sweep runs).

        Raises: StudyError when there is no study or it cannot be read.
        """
        meta = read_card(directory / STUDY_FILE)
        if meta is None:
            raise StudyError(f"{directory} holds no {STUDY_FILE}; give the --out directory of a `pgpack sweep`")
        return cls.of(directory, meta, Journal(directory / TRIALS_FILE).read())

    @property
    def finished_keys(self) -> frozenset[str]:
        """Keys that need no new measurement: every row counts, failed ones too."""
        return frozenset(trial.key for trial in (*self.trials, *self.partial))


@contextlib.contextmanager
def recording(
    directory: Path, meta: StudyMeta, complete: Callable[[StudyMeta], StudyMeta] = lambda card: card
) -> Iterator[tuple[Study, Journal]]:
    """Create or continue the study in `directory`; yields it as it stands and its journal, locked to append to.

    A new budget, space, calibration or pgpack version is taken over into the card (trial keys tell their
    rows apart). `complete` fills in what takes long to find, such as the fp32 loss, once the study is known to be
    the right one and nobody else's.
    Raises: StudyError when another process writes here, when the directory cannot be written, or when it belongs to
    other checkpoints or another evaluator.
    """
    with refusing(directory, "create it"):
        directory.mkdir(parents=True, exist_ok=True)
    with Journal(directory / TRIALS_FILE) as journal:
        before = read_card(directory / STUDY_FILE)
        card = complete(meta if before is None else continued(directory, before, meta))
        if card != before:
            replace_study_file(directory / STUDY_FILE, card.to_json().encode())
        yield Study.of(directory, card, journal.read()), journal


def latest_by_key(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """One trial per key: the latest row, in the order in which keys first appeared."""
    return tuple({trial.key: trial for trial in trials}.values())


@dataclass(frozen=True)
class Spread:
    """Of one figure over checkpoints. Units: the figure's; `sd` with n - 1, 0 for one checkpoint."""

    mean: float
    sd: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        return Spread(math.fsum(values) / len(values), sd, min(values), max(values))


@dataclass(frozen=True)
class Across:
    """A recipe on all checkpoints of a study. `trials`: its rows, in the order of the checkpoints; `trial`: the row
    that stands for them, whose key is that of no measurement. The spreads are None where one of the rows failed, that
    of `kl` also where it was not measured."""

    trial: Trial
    trials: tuple[Trial, ...]
    n_bytes: Spread | None
    bpb: Spread | None
    kl: Spread | None


BEST_FILE = "best.pgpack"
