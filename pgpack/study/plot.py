"""Frontiers as pictures for people: SVG and PNG, light, deterministic, readable in a README.

Owns how what `chart_view` shows is drawn: the best point as a star, a frontier with the band of its 95 % intervals,
packers measured over a dial as curves with their names, what lies beyond the view at its edge. Curves differ by
marker and line as well as by colour. Only measured trials are drawn; failed ones are the report's business.
matplotlib is loaded when a picture is made, without its global pyplot state; equal inputs give equal SVG bytes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pgpack.errors import StudyError
from pgpack.picture import COLOURS, GRID, INK, PICTURE_SUFFIXES, SOFT_INK, STYLE, figure_bytes

from .chart_view import ChartView, byte_unit, size_axis_label
from .comparison import half_width
from .files import replace_study_file
from .frontier import LOGARITHMIC, METRIC_NAMES, Front, Points, loss_of, measured, points_of
from .labels import Label, Placer
from .names import names_of
from .pictured import FrontierPicture, drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

BEST, BUDGET, FP32 = "#f5b301", "#b42318", "#1a6b35"
BEST_SIZE, POINT_SIZE = 21, 5.5
LINES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 2, 2)), "-", (0, (6, 2)))
MARKERS = "os^DvP"
CLOSE = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)  # labels within a power of ten
STAR_ROOM = 0.3  # of the height of the axes
MAX_NAMED = 12  # points with labels; the page names every point
_Spot: TypeAlias = tuple[float, float, str, str]  # x, y, horizontal and vertical alignment
_VERTICAL = ("top", "bottom")


def frontier_figure(picture: FrontierPicture) -> Figure:
    """A matplotlib figure of 10 x 6 inches that shows `picture`.

    Raises: StudyError when no trial was measured in the picture's metric.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    view = picture.view
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 6), dpi=100, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.14, h_pad=0.12)  # type: ignore[call-arg, union-attr]
        axes = figure.add_subplot()
        _prepare_axes(axes, picture, view)
        _draw_lines(axes, picture)
        _draw_others(axes, picture, view)
        sure = [_draw_curve(axes, front, number) for number, (_, front) in enumerate(picture.drawn)]
        _draw_best(axes, picture)
        notes = ["band: 95 % interval of the loss above fp32"] if any(sure) else []
        if not view.holds(drawable(picture.whole)).all():
            notes.append("triangles: beyond the scale")
        figure.supxlabel("; ".join(notes) or " ", x=0.99, ha="right", fontsize=9.5, color=SOFT_INK)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # labels are placed on this layout, and every file has it
        _place_names(axes, picture, view)
    return figure


def frontier_svg(picture: FrontierPicture) -> str:
    """The picture as SVG text, the same bytes for the same input."""
    return picture_bytes(picture, ".svg").decode()


def write_picture(picture: FrontierPicture, path: Path) -> None:
    """Write `path` as SVG or PNG by its suffix. Raises: StudyError for another suffix or an empty picture."""
    if path.suffix not in PICTURE_SUFFIXES:
        raise StudyError(f"{path}: a picture is written as .svg or .png, not {path.suffix or 'without suffix'!r}")
    replace_study_file(path, picture_bytes(picture, path.suffix))


def picture_bytes(picture: FrontierPicture, suffix: str) -> bytes:
    """The picture as SVG or PNG. Raises: StudyError for another suffix or an empty picture."""
    return figure_bytes(frontier_figure(picture), suffix, title=picture.title, description=picture.words)


# --- axes ----------------------------------------------------------------------------------------------


def _prepare_axes(axes: Axes, picture: FrontierPicture, view: ChartView) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_title(picture.title, loc="left", fontsize=13, fontweight="bold", pad=14)
    axes.set_xlim(*view.x)
    axes.set_ylim(*view.y)
    divisor, unit = byte_unit(view.x[1])
    axes.set_xlabel(size_axis_label(unit))
    axes.set_ylabel(METRIC_NAMES[picture.metric])
    if view.log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=CLOSE))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(*view.x)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / divisor:g}"))
    if picture.fp32_n_bytes:
        per_bit = picture.fp32_n_bytes / 32  # bytes of a bit per weight
        bits = axes.secondary_xaxis(
            "top", functions=(lambda n: np.divide(n, per_bit), lambda b: np.multiply(b, per_bit))
        )
        bits.set_xlabel("bits per weight", fontsize=10)
        bits.tick_params(labelsize=10)
        bits.spines["top"].set_visible(False)
        if view.log_x:
            bits.set_xscale("log")
            bits.xaxis.set_major_locator(LogLocator(subs=CLOSE))
            bits.xaxis.set_minor_locator(NullLocator())
        bits.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if view.log_y:
        axes.set_yscale("log")
        _label_closely(axes, *view.y)
        axes.set_ylim(*view.y)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label_closely(axes: Axes, low: float, high: float) -> None:
    """More labels on a logarithmic axis of losses than powers of ten, where it shows less than two of these."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if math.floor(math.log10(high)) > math.ceil(math.log10(low)):
        return
    close = LogLocator(subs=CLOSE) if high > 4 * low else MaxNLocator(6)
    axes.yaxis.set_major_locator(close)
    axes.yaxis.set_minor_locator(NullLocator())


# --- what is drawn -------------------------------------------------------------------------------------


def _draw_lines(axes: Axes, picture: FrontierPicture) -> None:
    """The budget and the fp32 model."""
    if picture.budget is not None:
        axes.axvline(picture.budget, color=BUDGET, linestyle=(0, (5, 3)), linewidth=1.3, gid="budget")
    if picture.fp32_bpb is not None and picture.metric == "bpb":
        axes.axhline(picture.fp32_bpb, color=FP32, linestyle=(0, (1.5, 2)), linewidth=1.4, gid="fp32")


def _draw_others(axes: Axes, picture: FrontierPicture, view: ChartView) -> None:
    """Trials off every frontier, in the colour of their study; those beyond the view as triangles at its edge."""
    points = np.concatenate([drawable(front) for front in picture.fronts])
    edge = points[~view.holds(points)]
    for number, front in enumerate(picture.fronts):
        beaten = drawable(front, [trial for trial in front.trials if trial.key not in front.keys])
        beaten = beaten[view.holds(beaten)]
        axes.scatter(beaten[:, 0], beaten[:, 1], s=18, color=_colour(number), alpha=0.35, linewidths=0, zorder=2)
    for marker, beyond in (("^", edge[:, 1] > view.y[1]), (">", edge[:, 1] <= view.y[1])):
        at = view.held(edge[beyond])
        axes.scatter(
            at[:, 0], at[:, 1], s=34, marker=marker, color=SOFT_INK, alpha=0.7, linewidths=0, zorder=2,
            clip_on=False, gid="edge",
        )  # fmt: skip


def _draw_curve(axes: Axes, front: Front, number: int) -> bool:
    """True when the interval of a point is known and drawn."""
    colour, points = _colour(number), drawable(front, front.points)
    line = LINES[number % len(LINES)]
    axes.step(points[:, 0], points[:, 1], where="post", color=colour, linestyle=line, linewidth=1.8, alpha=0.75)
    axes.plot(
        points[:, 0], points[:, 1], linestyle="", marker=MARKERS[number % len(MARKERS)], color=colour,
        markersize=POINT_SIZE, markeredgecolor="white", markeredgewidth=0.7, zorder=4,
    )  # fmt: skip
    return _draw_band(axes, front, colour)


def _draw_band(axes: Axes, front: Front, colour: str) -> bool:
    """The 95 % intervals of the frontier's losses above fp32, as steps like its own; a point whose interval is not
    known ends the band. True when there is one."""
    trials = [trial for trial in front.points if (loss_of(trial, front.metric) or 0) > 0]
    widths = np.array([half_width(trial, front.metric) or math.nan for trial in trials], np.float64)
    if np.isnan(widths).all():
        return False
    n_bytes, losses = points_of(trials, front.metric).T
    low = losses - widths
    if front.metric in LOGARITHMIC:
        low = np.where(low > 0, low, np.nextafter(0, 1) + axes.get_ylim()[0])  # a logarithmic axis has no 0
    axes.fill_between(
        n_bytes, low, losses + widths, where=~np.isnan(widths), step="post", color=colour, alpha=0.16, linewidth=0,
        zorder=1.5, gid="band",
    )  # fmt: skip
    axes.vlines(n_bytes, low, losses + widths, color=colour, alpha=0.3, linewidth=3)
    return True


def _draw_best(axes: Axes, picture: FrontierPicture) -> None:
    """The best point, larger than anything else."""
    best = picture.whole.best
    if best is not None:
        axes.plot(
            best.n_bytes or 0, loss_of(best, picture.metric) or 0.0, marker="*", markersize=BEST_SIZE, color=BEST,
            markeredgecolor=INK, markeredgewidth=1.3, zorder=5, gid="best",
        )  # fmt: skip


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


# --- names ---------------------------------------------------------------------------------------------


def _place_names(axes: Axes, picture: FrontierPicture, view: ChartView) -> None:
    """The names of the lines, of the best point, of the curves and of labelled trials, in this order."""
    points = np.concatenate([drawable(front) for _, front in picture.drawn])
    dots = np.concatenate(
        [
            axes.transData.transform(points[view.holds(points)]),
            *(_along(axes, front, view) for _, front in picture.drawn),
        ]
    )
    lines = {line.get_gid(): line.get_window_extent() for line in axes.lines}
    taken = [lines["fp32"].padded(1)] if "fp32" in lines else []
    taken += _name_lines(axes, picture, dots)
    if "budget" in lines:
        line = lines["budget"]
        dots = np.concatenate([dots, np.column_stack([np.full(40, line.x0), np.linspace(line.y0, line.y1, 40)])])
    placer = Placer(axes, dots, [*taken, *([lines["best"]] if "best" in lines else [])])
    for label in _labels(picture, view):
        placer.place(label)


def _along(axes: Axes, front: Front, view: ChartView) -> Points:
    """Places every few pixels along a frontier's steps, so that labels keep off the line. Units: pixels."""
    points = np.repeat(axes.transData.transform(view.held(drawable(front, front.points))), 2, axis=0)
    corners = np.column_stack([points[1:, 0], points[:-1, 1]])
    steps = [np.linspace(a, b, 2 + int(np.abs(b - a).max() / 12)) for a, b in itertools.pairwise(corners)]
    return np.concatenate([corners, *steps])


def _name_lines(axes: Axes, picture: FrontierPicture, dots: Points) -> list[Bbox]:
    """Names of budget and fp32 model beside their lines, where they cover fewest points; the boxes they take."""
    view, to_axes = picture.view, axes.transAxes.inverted()
    taken: list[Bbox] = []
    star = _star(axes, picture)

    def at(n_bytes: float, loss: float) -> tuple[float, float]:
        x, y = to_axes.transform(axes.transData.transform((n_bytes, loss)))
        return float(x), float(y)

    if picture.fp32_bpb is not None and picture.metric == "bpb":
        _, level = at(view.x[0], picture.fp32_bpb)
        beside: list[_Spot] = [(x, level, ha, va) for va in _VERTICAL for x, ha in ((0.01, "left"), (0.99, "right"))]
        taken.append(_named(axes, f"fp32 model {picture.fp32_bpb:.4f}", FP32, beside, dots, star))
    if picture.budget is not None:
        x, _ = at(picture.budget, view.y[0])
        sides = ((x - 0.008, "right"), (x + 0.008, "left"))
        stars = [to_axes.transform((box.x0, box.y0))[1] for box in star]  # the best point's own words need room
        heights = sorted((0.04, 0.12, 0.96, 0.5), key=lambda y: any(abs(y - each) < STAR_ROOM for each in stars))
        beside = [(side, y, ha, "center") for y in heights for side, ha in sides]
        taken.append(_named(axes, f"budget {picture.size(picture.budget)}", BUDGET, beside, dots, [*taken, *star]))
    return taken


def _star(axes: Axes, picture: FrontierPicture) -> list[Bbox]:
    """The box of the best point's mark; none where there is none."""
    from matplotlib.transforms import Bbox

    best = picture.whole.best
    if best is None:
        return []
    x, y = axes.transData.transform((float(best.n_bytes or 0), loss_of(best, picture.metric) or 0.0))
    half = BEST_SIZE / 2 * axes.figure.dpi / 72
    return [Bbox.from_extents(x - half, y - half, x + half, y + half)]


def _named(axes: Axes, text: str, colour: str, spots: Sequence[_Spot], dots: Points, taken: Sequence[Bbox]) -> Bbox:
    """Writes `text` at the best of the spots, which are in shares of the axes; its box."""
    frame = axes.get_window_extent()
    made = axes.annotate(text, (0, 0), xycoords="axes fraction", fontsize=10.5, color=colour)

    def put(spot: _Spot) -> Bbox:
        x, y, ha, va = spot
        made.xy = made.xyann = (x, y + {"bottom": 0.008, "top": -0.008}.get(va, 0.0))
        made.set(ha=ha, va=va)
        return made.get_window_extent()

    def cost(spot: _Spot) -> float:
        box = put(spot)
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        hit = ((dots > (box.x0, box.y0)) & (dots < (box.x1, box.y1))).all(axis=1).sum()
        return float(hit) + 100 * box.count_overlaps(taken) + 1000 * (not inside)

    return put(min(spots, key=cost))


def _labels(picture: FrontierPicture, view: ChartView) -> Iterator[Label]:
    """The best artifact under the budget, curves at their smallest one in view, labelled trials from the best on."""
    best, metric = picture.whole.best, picture.metric
    if best is not None:
        n_bytes, loss = float(best.n_bytes or 0), loss_of(best, metric) or 0.0
        (name,) = names_of([best]) if best.label else ("",)
        text = f"best: {picture.figures(n_bytes, loss)}" + (f"\n{name}" if name else "")
        yield Label(n_bytes, loss, text, INK, bold=True, must=True)
    alone = len(picture.drawn) == 1
    curved = {trial.key for name, front in picture.drawn[len(picture.curves) :] for trial in front.trials}
    for number, (name, front) in enumerate(picture.drawn):
        points = drawable(front, front.points)
        points = points[view.holds(points)]
        if alone or not len(points) or not name:
            continue
        yield Label(float(points[0, 0]), float(points[0, 1]), name, _colour(number), must=True)
    for number, front in enumerate(picture.fronts):
        named = [t for t in measured(front.trials, metric) if t.label and t != best and t.key not in curved]
        named.sort(key=lambda trial: loss_of(trial, metric) or 0.0)
        for trial, name in zip(named[:MAX_NAMED], names_of(named[:MAX_NAMED]), strict=True):
            point = (float(trial.n_bytes or 0), loss_of(trial, metric) or 0.0)
            if view.holds(np.array([point])).all():
                yield Label(*point, name, _colour(number))
