"""Pareto frontiers in (artifact bytes, loss), both minimised, and the two figures that compare frontiers.

Owns the Pareto set, the best point, hypervolume and Bjontegaard delta rate. Pure: points are float64 arrays
*Shape* (n, 2) with columns bytes and loss; trials are only read.
Refuses to compare curves that share no losses: a number outside the measured range is not a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgpack.errors import StudyError
from pgpack.tables import csv_text

from .comparison import half_widths
from .curves import mean_difference
from .trial import Trial

Metric: TypeAlias = Literal["kl", "bpb", "nats", "error"]
Points: TypeAlias = NDArray[np.float64]

METRIC_NAMES: Mapping[Metric, str] = {
    "kl": "KL to the fp32 model (nats per token)",
    "bpb": "bits per byte",
    "nats": "nats per token",
    "error": "error of the weights",
}
LOGARITHMIC: frozenset[Metric] = frozenset({"kl", "error"})
"""Losses that go to 0, exponentially with bytes."""

CSV_FIELDS = ("n_bytes", "bpb", "nats", "kl", "recipe", "recipe_digest")
CSV_COLUMNS = (*CSV_FIELDS, "bpb_half_width", "kl_half_width")
DISTORTION_COLUMNS = ("n_bytes", "relative_error", "expected_loss", "label", "recipe")
MIN_CURVE_POINTS = 3
MIN_SHARED = 0.1  # of the shorter curve's range of losses


def loss_of(trial: Trial, metric: Metric) -> float | None:
    """The trial's loss in `metric`; None when it failed or was not measured."""
    return getattr(trial, "weight_error" if metric == "error" else metric) if trial.ok else None


def default_metric(trials: Sequence[Trial]) -> Metric:
    """What trials are compared by where nobody chose: KL to the fp32 model where every measured trial has it, for it
    is mostly far less noisy than a difference of bits per byte (not on text that calibration never saw; the intervals
    tell); else bits per byte; the error of the weights where no trial was measured on text."""
    ok = [trial for trial in trials if trial.ok]
    if ok and all(trial.kl is not None for trial in ok):
        return "kl"
    return "error" if ok and all(trial.bpb is None for trial in ok) else "bpb"


def measured(trials: Sequence[Trial], metric: Metric | None = None) -> list[Trial]:
    """The trials that have both bytes and a loss in `metric` (None: their `default_metric`), in their order."""
    metric = metric or default_metric(trials)
    return [trial for trial in trials if trial.n_bytes is not None and loss_of(trial, metric) is not None]


def points_of(trials: Sequence[Trial], metric: Metric | None = None) -> Points:
    """Bytes and loss of every measured trial. *Shape* (n, 2) float64."""
    metric = metric or default_metric(trials)
    rows = [(trial.n_bytes, loss_of(trial, metric)) for trial in measured(trials, metric)]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def pareto_indices(points: ArrayLike) -> list[int]:
    """Indices of the points that no other point dominates, by ascending bytes; of equal points the first.

    *Shape* points: (n, 2). One sort and one pass: in order of bytes, a point stays when it lowers the loss.
    """
    table = _as_points(points)
    kept: list[int] = []
    best = math.inf
    for index in np.lexsort((table[:, 1], table[:, 0])):  # stable, so ties keep their first point
        if table[index, 1] < best:
            best = float(table[index, 1])
            kept.append(int(index))
    return kept


def pareto(trials: Sequence[Trial], metric: Metric | None = None) -> list[Trial]:
    """The trials that no other trial dominates in (n_bytes, metric), by ascending bytes; ties keep the first."""
    metric = metric or default_metric(trials)
    candidates = measured(trials, metric)
    return [candidates[index] for index in pareto_indices(points_of(candidates, metric))]


@dataclass(frozen=True)
class Front:
    """The frontier of trials in (bytes, `metric`) and its best point, each worked out once.

    Units: `budget` bytes, None: any size.
    """

    trials: tuple[Trial, ...]
    metric: Metric = "bpb"
    budget: int | None = None

    @cached_property
    def points(self) -> tuple[Trial, ...]:
        """The trials that no other dominates in (n_bytes, metric), by ascending bytes."""
        return tuple(pareto(self.trials, self.metric))

    @cached_property
    def best(self) -> Trial | None:
        """The point of least loss within the budget; None when nothing fits."""
        fitting = [trial for trial in self.points if self.budget is None or (trial.n_bytes or 0) <= self.budget]
        return fitting[-1] if fitting else None

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(trial.key for trial in self.points)

    @property
    def n_failed(self) -> int:
        return sum(not trial.ok for trial in self.trials)

    def is_best(self, trial: Trial) -> bool:
        return self.best is not None and trial.key == self.best.key


def hypervolume(points: ArrayLike, reference: tuple[float, float]) -> float:
    """Area that the points dominate inside the corner `reference` = (bytes, loss). Units: bytes x loss.

    Larger is better; comparable only between sets under one reference. Points beyond the reference add
    nothing.
    """
    table = _as_points(points)
    inside = table[(table[:, 0] < reference[0]) & (table[:, 1] < reference[1])]
    curve = inside[pareto_indices(inside)]
    widths = np.diff(np.append(curve[:, 0], reference[0]))
    return float(np.sum(widths * (reference[1] - curve[:, 1])))


@dataclass(frozen=True)
class BDRate:
    """Mean size difference of a test curve to an anchor at equal loss.

    Units: `percent` of the anchor's bytes, negative where the test curve is smaller; `loss_low` and
    `loss_high` bound the interval of losses that both curves reach (bits per byte, or nats per token for KL);
    `n_anchor` and `n_test` count the Pareto points used; `shared` is that interval as a share of all losses that
    either curve reaches, on the axis of the quality.
    """

    percent: float
    metric: Metric
    loss_low: float
    loss_high: float
    n_anchor: int
    n_test: int
    shared: float


def bd_rate(anchor: ArrayLike, test: ArrayLike, metric: Metric = "bpb") -> BDRate:
    """Bjontegaard delta rate of `test` against `anchor`: 100 (exp(mean of ln(bytes) difference) - 1).

    *Shape* anchor, test: (n, 2), bytes and loss; each is reduced to its Pareto set first.
    Source: Bjontegaard, VCEG-M33, 2001, in the later piecewise-cubic variant (PCHIP, which does not
    overshoot between points). Where we differ: the quality axis is a loss, `bpb` as it is and ln(KL) for
    `kl` (as decibels are logarithmic), and 3 points a curve are enough, where one cubic needed 4.
    A KL of 0 has no logarithm and is left out. A curve that stands still turns by a corner (`curves`).
    Raises: StudyError when a curve has fewer than 3 Pareto points, or the curves share less than a tenth of the
    losses that the shorter one reaches.
    """
    anchor_curve, test_curve = (
        log_curve(points, metric, role) for points, role in ((anchor, "anchor"), (test, "test"))
    )
    low = max(anchor_curve[0, 0], test_curve[0, 0])
    high = min(anchor_curve[-1, 0], test_curve[-1, 0])
    if not low < high:
        raise StudyError(
            f"BD-rate: the curves share no interval of {metric}: anchor {_span(anchor_curve, metric)}, "
            f"test {_span(test_curve, metric)}; measure both over the same losses"
        )
    spans = [float(curve[-1, 0] - curve[0, 0]) for curve in (anchor_curve, test_curve)]
    if (share := (high - low) / min(spans)) < MIN_SHARED:
        raise StudyError(
            f"BD-rate: the curves share {100 * share:.2g} % of their range of {metric}: anchor "
            f"{_span(anchor_curve, metric)}, test {_span(test_curve, metric)}; too little, measure both over "
            "the same losses"
        )
    difference = mean_difference(anchor_curve, test_curve, low, high)
    return BDRate(
        percent=100 * math.expm1(difference),
        metric=metric,
        loss_low=_to_loss(low, metric),
        loss_high=_to_loss(high, metric),
        n_anchor=len(anchor_curve),
        n_test=len(test_curve),
        shared=float(
            (high - low) / (max(anchor_curve[-1, 0], test_curve[-1, 0]) - min(anchor_curve[0, 0], test_curve[0, 0]))
        ),
    )


def frontier_csv(frontier: Sequence[Trial], metric: Metric = "bpb") -> str:
    """The trials as CSV text with the header CSV_COLUMNS, of a study without text DISTORTION_COLUMNS; empty where
    unknown. Half widths are those of 95 % intervals of the loss above the fp32 model (`pgpack.study.comparison`).
    """
    if metric == "error":
        return csv_text(DISTORTION_COLUMNS, ([getattr(t, name) for name in DISTORTION_COLUMNS] for t in frontier))
    return csv_text(CSV_COLUMNS, ((*(getattr(t, field) for field in CSV_FIELDS), *half_widths(t)) for t in frontier))


def _as_points(points: ArrayLike) -> Points:
    table = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if np.isnan(table).any():
        raise StudyError("a frontier cannot hold NaN; leave failed trials out (`measured` does)")
    return table


def log_curve(points: ArrayLike, metric: Metric, role: str) -> Points:
    """The Pareto set as rows (quality x, ln bytes) with x ascending: what a BD-rate integrates.

    Raises: StudyError for fewer than 3 points; `role` names the curve.
    """
    table = _as_points(points)
    if metric in LOGARITHMIC:
        table = table[table[:, 1] > 0]
        table = np.column_stack([table[:, 0], np.log(table[:, 1])])
    curve = table[pareto_indices(table)][::-1]
    if len(curve) < MIN_CURVE_POINTS:
        raise StudyError(
            f"BD-rate: the {role} curve has {len(curve)} Pareto points in {metric}; "
            f"it takes at least {MIN_CURVE_POINTS}: measure more sizes"
        )
    return np.column_stack([curve[:, 1], np.log(curve[:, 0])])


def _to_loss(x: float, metric: Metric) -> float:
    return math.exp(x) if metric in LOGARITHMIC else float(x)


def _span(curve: Points, metric: Metric) -> str:
    return f"{_to_loss(curve[0, 0], metric):.6g} to {_to_loss(curve[-1, 0], metric):.6g}"
