"""BD-rate between two studies: whether they compare at all, over what, and how sure the figure is.

    two studies --same text, model, calibration--> points that fall beyond their intervals --> BDRate, RateInterval

Owns what makes two studies comparable, and the interval of their BD-rate: the blocks of the text that both were
evaluated on are drawn again and again, the same for every trial. Of the KL blocks are not kept; its errors are drawn
for every trial alone, which makes that interval wide rather than narrow.
Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), percentile intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import StudyError
from pgpack.loss.intervals import LEVEL, unpack_floats

from .comparison import half_width, paired_difference
from .curves import straight_difference
from .frontier import BDRate, Metric, Points, bd_rate, log_curve, loss_of, pareto, points_of
from .study import Study
from .trial import Trial

Losses: TypeAlias = NDArray[np.float64]
N_DRAWS = 200
FEWEST_BLOCKS = 8
FEWEST_DRAWN = 0.9  # share of the draws that must give a figure
STILL = 0.02  # of the step to the next point of a front: what lies no higher above a point stands still
FAR = 1.5  # times the bytes of that point, where a plateau ends at the least
BARELY = 1e-9  # of a loss: an end that lies so far below the beginning is on the front
SHOWN = 12  # hexadecimal digits of a digest


@dataclass(frozen=True)
class RateInterval:
    """Where a BD-rate would lie on other text of the same kind. Units: `low`, `high` percent, as `BDRate.percent`.

    `paired`: whether blocks of the text were drawn, the same for every trial; else the errors of each trial alone.
    """

    low: float
    high: float
    level: float
    n_draws: int
    paired: bool


@dataclass(frozen=True)
class Plateau:
    """Sizes in the middle of a curve that do not lower its loss. Units: bytes."""

    of: str
    n_sizes: int
    low: int
    high: int
    loss: float


@dataclass(frozen=True)
class Rate:
    """A BD-rate of two studies; `n_still`: points at the ends of both curves that were left out, because they do not
    lower the loss beyond their intervals. `interval` None: the studies do not tell. `plateaus`: where a curve is
    drawn past sizes that were measured; `percent_with_them`: the figure where it stands still there, None for none.
    """

    rate: BDRate
    interval: RateInterval | None
    n_still: int
    plateaus: tuple[Plateau, ...] = ()
    percent_with_them: float | None = None


def rate_between(anchor: Study, test: Study, metric: Metric) -> Rate:
    """BD-rate of `test` to `anchor`. Raises: StudyError where they do not compare, or as `bd_rate`."""
    require_comparable(anchor, test)
    curves, n_still, plateaus = [], 0, []
    for study in (anchor.merged, test.merged):
        front = pareto(study.trials, metric)
        falling = falling_part(front, metric, study.meta.block_bytes)
        curves.append(falling)
        n_still += len(front) - len(falling)
        plateaus.append(
            plateaus_of(points_of(falling, metric), points_of(study.trials, metric), str(study.directory))
        )
    first, second = (points_of(curve, metric) for curve in curves)
    rate = bd_rate(first, second, metric)
    interval = interval_of(rate, curves[0], curves[1], anchor.meta.block_bytes)
    found = (*plateaus[0], *plateaus[1])
    if not found:
        return Rate(rate, interval, n_still)
    with_them = bd_rate(_standing(first, plateaus[0]), _standing(second, plateaus[1]), metric)
    return Rate(rate, interval, n_still, found, with_them.percent)


def plateaus_of(front: Points, measured: Points, of: str) -> list[Plateau]:
    """Where sizes between two points of a front were measured and stand still: two at least, the largest of them far
    from the first. One size more at an equal loss is another coder's, and no part of a curve.

    *Shape* (n, 2) each: bytes and loss, the front by ascending bytes.
    """
    found = []
    for (least, loss), (most, better) in pairwise(front):
        between = measured[(measured[:, 0] > least) & (measured[:, 0] < most)]
        sizes = np.unique(between[between[:, 1] <= loss + STILL * (loss - better), 0])
        if len(sizes) > 1 and sizes[-1] >= FAR * least:
            found.append(Plateau(of, len(sizes), int(least), int(sizes[-1]), float(loss)))
    return found


def _standing(front: Points, plateaus: Sequence[Plateau]) -> Points:
    """The front with the far end of every plateau on it."""
    ends = [(each.high, each.loss * (1 - BARELY)) for each in plateaus]
    return np.vstack([front, np.array(ends, np.float64).reshape(-1, 2)])


def require_comparable(anchor: Study, test: Study) -> None:
    """Raises StudyError when text, model or calibration of two studies differ."""
    kinds = {
        "text, or the way it is evaluated,": ({anchor.meta.evaluator_digest}, {test.meta.evaluator_digest}),
        "model": tuple({each.checkpoint_digest for each in study.meta.checkpoints} for study in (anchor, test)),
        "calibration": tuple(
            {t.calibration_digest for t in s.trials if t.calibration_digest} for s in (anchor, test)
        ),
    }
    for what, (first, second) in kinds.items():
        same = first == second if what != "calibration" else not (first and second) or first & second
        if not same:
            digests = (min(each)[:SHOWN] for each in (first, second))
            raise StudyError(
                f"BD-rate: {anchor.directory} and {test.directory} do not compare, their {what} differs "
                f"({', '.join(digests)}); sweep both with the same flags"
            )


def falling_part(front: Sequence[Trial], metric: Metric, block_bytes: Sequence[int]) -> list[Trial]:
    """The front up to its last point that lowers the loss beyond the interval of the difference.

    `front`: a Pareto set by ascending bytes. A point without an interval is taken at its word.
    """
    last = 0
    for i in range(1, len(front)):
        if _falls(front[last], front[i], metric, block_bytes):
            last = i
    return list(front[: last + 1])


def _falls(worse: Trial, better: Trial, metric: Metric, block_bytes: Sequence[int]) -> bool:
    if metric == "bpb":
        difference = paired_difference(worse, better, block_bytes)
        width = None if difference is None else difference.half_width()
    else:
        widths = [half_width(trial, metric) or 0.0 for trial in (worse, better)]
        width = abs(widths[0] - widths[1])  # at least: the blocks that pair them are not kept
    return (loss_of(worse, metric) or 0.0) - (loss_of(better, metric) or 0.0) > (width or 0.0)


def interval_of(
    rate: BDRate, anchor: Sequence[Trial], test: Sequence[Trial], block_bytes: Sequence[int]
) -> RateInterval | None:
    """The 95 % interval of the BD-rate of two curves; None where a trial lacks its errors, or blocks are too few.

    The curves of a draw are straight between their points: only how far draws move the figure is taken from them.
    """
    metric = rate.metric
    draws = [_drawn(trials, metric, block_bytes, seed) for seed, trials in enumerate((anchor, test))]
    if draws[0] is None or draws[1] is None:
        return None
    sizes = [np.array([trial.n_bytes for trial in trials], np.float64) for trials in (anchor, test)]
    found = [_straight(sizes, losses, metric) for losses in zip(*draws, strict=True)]
    shifts = np.array([each for each in found if not math.isnan(each)])
    if len(shifts) < FEWEST_DRAWN * N_DRAWS:
        return None
    shifts -= _straight(sizes, [_losses(trials, metric) for trials in (anchor, test)], metric)
    low, high = np.expm1(math.log1p(rate.percent / 100) + np.quantile(shifts, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return RateInterval(100 * float(low), 100 * float(high), LEVEL, len(shifts), metric == "bpb")


def _straight(sizes: Sequence[Losses], losses: Sequence[Losses], metric: Metric) -> float:
    """Mean difference of ln bytes of two curves, by straight lines; NaN where they do not compare."""
    points = [np.column_stack(each) for each in zip(sizes, losses, strict=True)]
    try:
        return straight_difference(*(log_curve(each, metric, "drawn") for each in points))
    except StudyError:
        return math.nan


def _losses(trials: Sequence[Trial], metric: Metric) -> Losses:
    return np.array([loss_of(trial, metric) for trial in trials], np.float64)


def _drawn(trials: Sequence[Trial], metric: Metric, block_bytes: Sequence[int], seed: int) -> Losses | None:
    """Losses on drawn texts. Shape: (N_DRAWS, n_trials). None where a trial lacks what to draw from."""
    measured = _losses(trials, metric)
    if metric != "bpb":
        errors = np.array([trial.kl_se or np.nan for trial in trials], np.float64)
        relative = errors / np.maximum(measured, np.finfo(float).tiny)
        drawn = np.random.default_rng(seed).standard_normal((N_DRAWS, len(trials)))
        return None if np.isnan(errors).any() else measured * np.exp(np.minimum(relative, 1.0) * drawn)
    n = len(block_bytes)
    blocks = [unpack_floats(trial.block_excess or "") for trial in trials]
    if n < FEWEST_BLOCKS or any(len(each) != n for each in blocks):
        return None
    times = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), N_DRAWS)  # the same for both curves
    bits, n_bytes = np.array(blocks).T / math.log(2), np.array(block_bytes, np.float64)
    shift = (times @ bits) / (times @ n_bytes)[:, None] - bits.sum(axis=0) / n_bytes.sum()
    moved: Losses = measured + shift
    return moved
