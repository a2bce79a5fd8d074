"""A study as read at one moment, and the way to write one: recorded under a lock, one row a trial."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pgpack.errors import StudyError
from pgpack.sizes import Size, bytes_of

from .card import STUDY_FILE, StudyMeta, begun, continued, known_card, read_card
from .files import refusing, replace_study_file
from .frontier import Metric, default_metric
from .journal import TRIALS_FILE, Journal
from .pictured import Curve
from .seeds import Across, Spread, across
from .trial import Trial, by_size
from .view import FrontierView

BEST_FILE = "best.pgpack"
OF_A_STUDY = (STUDY_FILE, "trials.*", "calibration-*.safetensors")  # what a run leaves first
T = TypeVar("T")


@dataclass(frozen=True)
class Study:
    """A study as read at one moment: one trial per key, the latest row of a key in the place of its first.

    `partial`: what a search measured on a part of the text; these count for that search only. `seeds`: in a study
    that was `merged` from several checkpoints, what stands behind each trial, by its key.
    """

    directory: Path
    meta: StudyMeta
    trials: tuple[Trial, ...]
    partial: tuple[Trial, ...] = ()
    seeds: Mapping[str, Across] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Study {self.directory}: {len(self.trials)} trials>"

    @classmethod
    def of(cls, directory: Path, meta: StudyMeta, rows: tuple[Trial, ...]) -> Study:
        latest = {trial.key: trial for trial in rows}.values()
        whole = tuple(trial for trial in latest if trial.on_full_text)
        return cls(directory, meta, whole, tuple(trial for trial in latest if not trial.on_full_text))

    def with_rows(self, rows: tuple[Trial, ...]) -> Study:
        """The study after these rows were appended to its journal."""
        return Study.of(self.directory, self.meta, (*self.trials, *self.partial, *rows))

    def without_failed(self) -> Study:
        """The study as if what failed had not been tried."""
        return Study.of(self.directory, self.meta, tuple(t for t in (*self.trials, *self.partial) if t.ok))

    def without(self, keys: Collection[str]) -> Study:
        """The study as if these trials had not been tried."""
        rows = (*self.trials, *self.partial)
        return Study.of(self.directory, self.meta, tuple(trial for trial in rows if trial.key not in keys))

    @classmethod
    def load(cls, directory: Path, rows: tuple[Trial, ...] | None = None) -> Study:
        """The study in `directory`, without taking the lock (safe while a sweep runs); with these `rows` of its
        journal, where somebody read it already.

        Raises: StudyError when there is no study or it cannot be read.
        """
        meta = read_card(directory / STUDY_FILE)
        if meta is None:
            raise StudyError(f"{directory} holds no {STUDY_FILE}; give the folder of a `pgpack sweep`")
        return cls.of(directory, meta, Journal(directory / TRIALS_FILE).read() if rows is None else rows)

    @cached_property
    def merged(self) -> Study:
        """What tables, pictures and pages show: the trials by their bytes, whatever the order of measurement was; a
        study of several checkpoints as one whose trials are the rows that stand for its recipes and whose fp32 loss
        is the mean."""
        cards = self.meta.checkpoints
        if len(cards) == 1 or self.seeds:
            return dataclasses.replace(self, trials=by_size(self.trials))
        losses: dict[str, Any] = {
            name: Spread.of(known).mean
            for name in ("fp32_bpb", "fp32_nats")
            if None not in (known := [getattr(card, name) for card in cards])
        }
        found = {each.trial.key: each for each in across(self.meta, self.trials)}
        trials = by_size(each.trial for each in found.values())
        seeds = {trial.key: found[trial.key] for trial in trials}
        return dataclasses.replace(self, meta=dataclasses.replace(self.meta, **losses), trials=trials, seeds=seeds)

    def frontier(self, metric: Metric | None = None, budget: Size | None = None) -> FrontierView:
        """The frontier of the study's recipes in (bytes, `metric`), with its best point within the budget.

        `metric`: "kl", "bpb", "nats" or "error"; None: that of the study, by which `best.pgpack` is chosen. Units:
        `budget` bytes, or text such as "16MB"; None: that of the study. Raises: ValueError for a size that is none.

        >>> view = pgpack.open_study("study").frontier(metric="kl", budget="16MB")
        >>> view.best in view.points
        True
        """
        limit = None if budget is None else bytes_of(budget, self.meta.fp32_n_bytes)
        view = frontier_of({self.directory.resolve().name: self}, metric, limit)
        return dataclasses.replace(view, title=f"Frontier of {self.meta.title}")

    @property
    def finished_keys(self) -> frozenset[str]:
        """Keys that need no new measurement: every row counts, failed ones too."""
        return frozenset(trial.key for trial in (*self.trials, *self.partial))


def frontier_of(
    studies: Mapping[str, Study],
    metric: Metric | None = None,
    budget: int | None = None,
) -> FrontierView:
    """The frontier of named studies together; see `Study.frontier`. A metric, a budget and an fp32 loss that all have
    in common are theirs."""
    metas = [study.merged.meta for study in studies.values()]
    curves = tuple(Curve(name, study.merged.trials) for name, study in studies.items())
    trials = tuple(trial for curve in curves for trial in curve.trials)
    return FrontierView(
        trials,
        metric or metric_of(studies.values(), trials),
        _shared([meta.budget for meta in metas]) if budget is None else budget,
        title=f"Frontier of {', '.join(studies)}",
        subject="; ".join(f"{name}: {study.meta.subject}" for name, study in studies.items()),
        curves=curves,
        fp32_bpb=_shared([meta.fp32_bpb for meta in metas]),
        fp32_n_bytes=_shared([meta.fp32_n_bytes for meta in metas]),
        block_bytes={meta.evaluator_digest: meta.block_bytes for meta in reversed(metas) if meta.block_bytes},
    )


def metric_of(studies: Iterable[Study], trials: Sequence[Trial]) -> Metric:
    """The metric that all the studies were given; else the default one of these trials of theirs."""
    return _shared([study.meta.metric for study in studies]) or default_metric(trials)


def _shared(values: Sequence[T]) -> T | None:
    """The value that all have in common; None when they differ."""
    return values[0] if len(set(values)) == 1 else None


def _refuse_foreign(directory: Path) -> None:
    """Raises: StudyError for a folder of files that is no study, not even one that was just begun."""
    names = sorted(path.name for path in directory.iterdir() if path.name[0] != ".") if directory.is_dir() else []
    if names and not any(fnmatch.fnmatchcase(name, known) for name in names for known in OF_A_STUDY):
        raise StudyError(f"{directory} is no study and holds {names[0]}; give a new or an empty folder as -o")


@contextlib.contextmanager
def recording(
    directory: Path, meta: StudyMeta, complete: Callable[[StudyMeta], StudyMeta] = lambda card: card
) -> Iterator[tuple[Study, Journal]]:
    """Create or continue the study in `directory`; yields it as it stands and its journal, mended and locked.

    A new budget, space, calibration or pgpack version is taken over into the card (trial keys tell their
    rows apart). `complete` fills in what takes long to find, such as the fp32 loss, once the study is known to be
    the right one and nobody else's.
    A damaged card is made again. Raises: StudyError when another process writes here, when the directory cannot be
    written, when it holds files of something else, or belongs to other checkpoints or another evaluator.
    """
    with refusing(directory, "create it"):
        _refuse_foreign(directory)
        directory.mkdir(parents=True, exist_ok=True)
    with Journal(directory / TRIALS_FILE) as journal:
        before, damage = known_card(directory / STUDY_FILE)
        known = continued(directory, before, meta) if before else begun(directory, journal.scan().trials, meta)
        card = complete(known)
        if card != before:
            replace_study_file(directory / STUDY_FILE, card.to_json().encode())
        trials = journal.mend(damage).trials
        yield Study.of(directory, card, trials), journal
