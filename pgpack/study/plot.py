"""Frontiers as pictures for people: SVG and PNG, light, deterministic, readable in a README.

Owns what part of the plane a chart shows (`chart_view`, which the HTML report shares) and how it is drawn.
Only measured trials are drawn; failed ones are the report's business. matplotlib is loaded when a picture is
made, without its global pyplot state; equal inputs give equal SVG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import StudyError
from pgpack.files import replace_study_file
from pgpack.picture import COLOURS, GRID, INK, PICTURE_SUFFIXES, SOFT_INK, STYLE, figure_bytes

from .comparison import half_width
from .frontier import LOGARITHMIC, METRIC_NAMES, Front, Metric, Points, loss_of, measured, pareto_indices, points_of
from .trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as MarkerPath
    from matplotlib.transforms import Bbox


_BUDGET, _FP32 = "#b42318", "#1a6b35"
_LABEL_OFFSETS = tuple(
    (radius * x, radius * y)
    for radius in (9, 16, 26, 40)
    for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1), (0.2, 1.4), (0.2, -1.4))
)


@dataclass(frozen=True)
class Curve:
    """One study in a picture: its name in the legend and all its trials."""

    name: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class FrontierPicture:
    """Everything that a frontier picture shows.

    Units: `budget` bytes; `fp32_bpb` bits per byte of the unpacked model, drawn when `metric` is bpb.
    """

    curves: tuple[Curve, ...]
    title: str
    metric: Metric = "bpb"
    budget: int | None = None
    fp32_bpb: float | None = None

    @cached_property
    def fronts(self) -> tuple[Front, ...]:
        return tuple(self._front(curve.trials) for curve in self.curves)

    @cached_property
    def whole(self) -> Front:
        return self._front(tuple(trial for curve in self.curves for trial in curve.trials))

    def _front(self, trials: tuple[Trial, ...]) -> Front:
        return Front(trials, self.metric, self.budget)


@dataclass(frozen=True)
class ChartView:
    """The part of the plane worth looking at. Units: x bytes, y loss; `n_outside` trials lie beyond it."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool
    log_y: bool
    n_outside: int


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
    x = _padded(left, right, 0.06, log_x)
    y = _padded(floor, ceiling, 0.07, metric in LOGARITHMIC)
    inside = (points[:, 0] <= x[1]) & (points[:, 0] >= x[0]) & (points[:, 1] <= y[1]) & (points[:, 1] >= y[0])
    return ChartView(x, y, log_x, metric in LOGARITHMIC, int(len(points) - inside.sum()))


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


def frontier_figure(picture: FrontierPicture) -> Figure:
    """A matplotlib figure of 10 x 6 inches that shows `picture`.

    Raises: StudyError when no trial was measured in the picture's metric.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    view = chart_view(picture.whole, picture.fp32_bpb)
    if view is None:
        raise StudyError(f"no trial has a {picture.metric} to draw; see the errors in trials.jsonl")
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 6), dpi=100, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.14, h_pad=0.12)  # type: ignore[call-arg, union-attr]
        axes = figure.add_subplot()
        _prepare_axes(axes, picture, view)
        _draw_lines(axes, picture, view)
        named = zip(picture.curves, picture.fronts, strict=True)
        sure = [_draw_curve(axes, curve.name, front, _colour(n)) for n, (curve, front) in enumerate(named)]
        if any(sure):
            _note_below(axes, f"bars: 95 % intervals above fp32{' (arrow: to 0)' * view.log_y}", "left")
        if len(picture.curves) > 1:
            axes.legend(frameon=True, edgecolor=GRID, framealpha=0.9, loc="upper right")
        figure.draw_without_rendering()  # fixes the layout that labels are placed on
        _place_labels(axes, picture, view)
    return figure


def frontier_svg(picture: FrontierPicture) -> str:
    """The picture as SVG text, the same bytes for the same input."""
    return figure_bytes(frontier_figure(picture), ".svg").decode()


def write_picture(picture: FrontierPicture, path: Path) -> None:
    """Write `path` as SVG or PNG by its suffix. Raises: StudyError for another suffix or an empty picture."""
    if path.suffix not in PICTURE_SUFFIXES:
        raise StudyError(f"{path}: a picture is written as .svg or .png, not {path.suffix or 'without suffix'!r}")
    replace_study_file(path, figure_bytes(frontier_figure(picture), path.suffix))


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _prepare_axes(axes: Axes, picture: FrontierPicture, view: ChartView) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_title(picture.title, loc="left", fontsize=13, fontweight="bold", pad=24)
    axes.set_xlim(*view.x)
    axes.set_ylim(*view.y)
    divisor, unit = byte_unit(view.x[1])
    axes.set_xlabel(size_axis_label(unit))
    axes.set_ylabel(METRIC_NAMES[picture.metric])
    if view.log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(*view.x)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / divisor:g}"))
    if view.log_y:
        axes.set_yscale("log")
        _label_closely(axes, *view.y)
        axes.set_ylim(*view.y)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if view.n_outside:
        _note_below(axes, f"{view.n_outside} trial{'s' * (view.n_outside > 1)} outside the view", "right")


def _label_closely(axes: Axes, low: float, high: float) -> None:
    """More labels on a logarithmic axis of losses than powers of ten, where it shows less than two of these."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if math.floor(math.log10(high)) > math.ceil(math.log10(low)):
        return
    close = LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)) if high > 4 * low else MaxNLocator(6)
    axes.yaxis.set_major_locator(close)
    axes.yaxis.set_minor_locator(NullLocator())


def _note_below(axes: Axes, text: str, side: Literal["left", "right"]) -> None:
    axes.annotate(
        text, (float(side == "right"), 0), xycoords="axes fraction", xytext=(0, -30), textcoords="offset points",
        ha=side, fontsize=9, color=SOFT_INK,
    )  # fmt: skip


def _draw_lines(axes: Axes, picture: FrontierPicture, view: ChartView) -> None:
    """The budget and the fp32 model, each named where its line leaves the picture."""
    if picture.budget is not None:
        divisor, unit = byte_unit(view.x[1])
        axes.axvline(picture.budget, color=_BUDGET, linestyle="--", linewidth=1.2, gid="budget")
        axes.annotate(
            f"budget {picture.budget / divisor:g} {unit}", (picture.budget, 1),
            xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
            ha="center", fontsize=9, color=_BUDGET,
        )  # fmt: skip
    if picture.fp32_bpb is not None and picture.metric == "bpb":
        axes.axhline(picture.fp32_bpb, color=_FP32, linestyle="--", linewidth=1.2, gid="fp32")
        axes.annotate(
            f"fp32 model {picture.fp32_bpb:.4f}", (0, picture.fp32_bpb),
            xycoords=("axes fraction", "data"), xytext=(5, 3), textcoords="offset points",
            fontsize=9, color=_FP32,
        )  # fmt: skip


def _draw_curve(axes: Axes, name: str, front: Front, colour: str) -> bool:
    """True when a point's interval is known and drawn."""
    beaten = points_of([trial for trial in front.trials if trial.key not in front.keys], front.metric)
    axes.scatter(beaten[:, 0], beaten[:, 1], s=16, color=colour, alpha=0.3, linewidths=0, zorder=2)
    points = points_of(front.points, front.metric)
    if front.metric in LOGARITHMIC:
        points = points[points[:, 1] > 0]
    name = name if front.trials else f"{name} (no trials)"
    axes.step(points[:, 0], points[:, 1], where="post", color=colour, linewidth=1.6, alpha=0.55, zorder=3)
    axes.plot(
        points[:, 0], points[:, 1], "o", color=colour, markersize=5.5,
        markeredgecolor="white", markeredgewidth=0.7, label=name, zorder=4,
    )  # fmt: skip
    return _draw_intervals(axes, front.points, colour, front.metric)


def _draw_intervals(axes: Axes, frontier: Sequence[Trial], colour: str, metric: Metric) -> bool:
    """Thin bars at the points whose interval is known; True when there is one."""
    known = [
        (trial.n_bytes, loss, width)
        for trial in frontier
        if (width := half_width(trial, metric)) is not None and ((loss := loss_of(trial, metric)) or 0) > 0
    ]
    if known:
        n_bytes, losses, widths = np.array(known, np.float64).T
        to_zero = (widths >= losses) & (metric == "kl")  # an arrow, for a logarithmic axis has no 0
        axes.errorbar(
            n_bytes, losses, yerr=(np.where(to_zero, 0, widths), widths), fmt="none", ecolor=colour,
            elinewidth=0.9, capsize=2.5, capthick=0.9, alpha=0.8, zorder=3.5,
        )  # fmt: skip
        axes.plot(
            n_bytes[to_zero], losses[to_zero], linestyle="", marker=_arrow_down(), markersize=24, fillstyle="none",
            markeredgecolor=colour, markeredgewidth=0.9, alpha=0.8, zorder=3.5,
        )  # fmt: skip
    return bool(known)


def _arrow_down() -> MarkerPath:
    """A marker that hangs from its point, half the marker's size long."""
    from matplotlib.path import Path as MarkerPath

    corners = ((0, 0), (0, -1), (-0.2, -0.75), (0, -1), (0.2, -0.75))
    return MarkerPath(corners, (MarkerPath.MOVETO, *(4 * (MarkerPath.LINETO,))))


def _labels(picture: FrontierPicture, view: ChartView) -> list[tuple[float, float, str, str]]:
    """(bytes, loss, text, colour) of what deserves a name: the best artifact under the budget, then labels."""
    chosen: list[tuple[float, float, str, str]] = []
    for index, front in enumerate(picture.fronts):
        best = front.best
        named = [trial for trial in measured(front.trials, picture.metric) if trial.label and trial != best]
        named.sort(key=lambda trial: loss_of(trial, picture.metric) or 0.0)
        for trial in ([best] if best else []) + named:
            n_bytes, loss = float(trial.n_bytes or 0), loss_of(trial, picture.metric) or 0.0
            if view.x[0] <= n_bytes <= view.x[1] and view.y[0] <= loss <= view.y[1]:
                text = _best_text(trial, loss, view) if trial is best else trial.label
                chosen.append((n_bytes, loss, text, _colour(index)))
    return chosen


def _best_text(trial: Trial, loss: float, view: ChartView) -> str:
    divisor, unit = byte_unit(view.x[1])
    name = f"{trial.label}: " if trial.label else "best: "
    return f"{name}{(trial.n_bytes or 0) / divisor:.4g} {unit}, {loss:{'.3g' if view.log_y else '.4f'}}"


def _place_labels(axes: Axes, picture: FrontierPicture, view: ChartView) -> None:
    """Greedy placing: of 24 offsets around a point take the one that covers least of what is already there."""
    scale = axes.figure.dpi / 72
    frame = axes.get_window_extent()
    points = points_of(picture.whole.trials, picture.metric)
    dots = axes.transData.transform(points[points[:, 1] > 0])
    named = (line for line in axes.lines if line.get_gid() == "fp32")
    taken = [artist.get_window_extent().padded(1) for artist in (*axes.texts, *named)]
    legend = axes.get_legend()
    if legend is not None:
        taken.append(legend.get_window_extent())
    for n_bytes, loss, text, colour in _labels(picture, view):
        anchor = axes.transData.transform((n_bytes, loss))
        label = axes.annotate(
            text, (n_bytes, loss), xytext=(0, 0), textcoords="offset points", fontsize=9.5, color=INK,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
            bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            zorder=6,
        )  # fmt: skip
        width, height = label.get_window_extent().size
        boxes = [_label_box(anchor, offset, width, height, scale) for offset in _LABEL_OFFSETS]
        costs = [_label_cost(box, frame, taken, dots) + 0.4 * n for n, box in enumerate(boxes)]
        choice = int(np.argmin(costs))
        label.xyann = x, y = _LABEL_OFFSETS[choice]
        label.set(ha="left" if x > 0 else "right", va="bottom" if y > 0 else "top")
        taken.append(boxes[choice])


def _label_box(
    anchor: NDArray[np.float64], offset: tuple[float, float], width: float, height: float, scale: float
) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = anchor[0] + scale * offset[0], anchor[1] + scale * offset[1]
    left = x if offset[0] > 0 else x - width
    bottom = y if offset[1] > 0 else y - height
    return Bbox.from_bounds(left, bottom, width, height)


def _label_cost(box: Bbox, frame: Bbox, taken: Sequence[Bbox], dots: Points) -> float:
    outside = not (box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1)
    covered = (
        (dots[:, 0] > box.x0 - 3) & (dots[:, 0] < box.x1 + 3) & (dots[:, 1] > box.y0 - 3) & (dots[:, 1] < box.y1 + 3)
    )
    return 1000.0 * outside + 200.0 * box.count_overlaps(taken) + 6.0 * float(covered.sum())
