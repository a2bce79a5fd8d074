"""What part of the plane a chart of a frontier shows, and in which unit; the report's scripts share it.

Owns the choice. Nothing is left out: what lies beyond is drawn at the edge (`ChartView.held`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .frontier import LOGARITHMIC, Front, Points, loss_of, pareto_indices, points_of


@dataclass(frozen=True)
class ChartView:
    """The part of the plane worth looking at. Units: x bytes, y loss."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool
    log_y: bool

    def holds(self, points: Points) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which points lie inside. *Shape* points: (n, 2)."""
        (left, right), (low, high) = self.x, self.y
        n_bytes, losses = points[:, 0], points[:, 1]
        inside = (n_bytes >= left) & (n_bytes <= right) & (losses >= low) & (losses <= high)
        return np.asarray(inside, dtype=np.bool_)

    def held(self, points: Points) -> Points:
        """The points, those beyond moved to the nearest edge."""
        low, high = np.array([self.x, self.y]).T
        return np.clip(points, low, high)


def chart_view(of: Front, fp32_bpb: float | None) -> ChartView | None:
    """The view that shows a frontier well; None when nothing was measured.

    Losses far above the frontier, such as a 2-bit model's, would squash it: on the linear bpb axis the view
    ends at 8 times the frontier's median excess over its floor, at most a quarter above that floor, but
    always holds the fp32 model, the best point under the budget and 3 frontier points. KL and the error
    of weights decay exponentially with bytes, so their axis is logarithmic and holds the whole frontier. Bytes are
    logarithmic when they span more than 4x.
    """
    metric, budget = of.metric, of.budget
    points = points_of(of.trials, metric)
    if metric in LOGARITHMIC:
        points = points[points[:, 1] > 0]  # a KL of 0 has no place on a logarithmic axis
    if not len(points):
        return None
    front = points[pareto_indices(points)]
    floor = ceiling = float(front[-1, 1])
    if of.best is not None and metric not in LOGARITHMIC:
        ceiling = max(ceiling, loss_of(of.best, metric) or floor)
    if fp32_bpb is not None and metric == "bpb":
        floor, ceiling = min(floor, fp32_bpb), max(ceiling, fp32_bpb)
    ceiling = float(front[0, 1]) if metric in LOGARITHMIC else max(ceiling, _bpb_ceiling(front, floor, budget))
    shown = front[front[:, 1] <= ceiling]
    right = max(float(shown[-1, 0]), budget or 0)
    near = points[(points[:, 1] <= ceiling) & (points[:, 0] <= 1.25 * right)]
    left, right = min(float(near[:, 0].min()), budget or math.inf), max(float(near[:, 0].max()), right)
    log_x = right > 4 * left
    return ChartView(
        _padded(left, right, 0.06, log_x),
        _padded(floor, ceiling, 0.07, metric in LOGARITHMIC),
        log_x,
        metric in LOGARITHMIC,
    )


def _bpb_ceiling(front: Points, floor: float, budget: int | None) -> float:
    losses = front[:, 1]
    limit = min(floor + 8 * float(np.median(losses - floor)), 1.25 * floor)
    fitting = losses[front[:, 0] <= budget] if budget is not None else losses
    needed = max(float(losses[-3:].max()), float(fitting.min()) if len(fitting) else float(losses[0]))
    return max(float(losses[losses <= limit].max(initial=floor)), needed)


def _padded(low: float, high: float, share: float, log: bool) -> tuple[float, float]:
    if log:
        low, high = math.log(low), math.log(high)
    pad = share * (high - low) or 0.05 * abs(high) or 0.05
    low, high = low - pad, high + pad
    return (math.exp(low), math.exp(high)) if log else (low, high)


def byte_unit(largest: float) -> tuple[float, str]:
    """Divisor and name of the decimal unit that suits sizes up to `largest` bytes."""
    return (1e6, "MB") if largest >= 1e6 else (1e3, "kB")


def size_axis_label(unit: str) -> str:
    """The axis title that says what the unit means: MB = 10^6 bytes, kB = 10^3."""
    return f"artifact size ({unit} = 10{'⁶' if unit == 'MB' else '³'} bytes)"
