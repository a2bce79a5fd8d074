"""The best of some trials, as a study's view has it."""

from __future__ import annotations

from collections.abc import Sequence

from pgpack.study.frontier import Front, Metric, default_metric
from pgpack.study.trial import Trial


def best_under(trials: Sequence[Trial], n_bytes: int | None, metric: Metric | None = None) -> Trial | None:
    """The trial of least loss among those of at most `n_bytes` (None: of any size); None when nothing fits."""
    return Front(tuple(trials), metric or default_metric(trials), n_bytes).best
