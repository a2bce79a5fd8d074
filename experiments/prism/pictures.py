"""The pictures of the page: every seed is a dot, its mean a bar across."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from experiments.replication.figures import chart, drawing, prepare
from experiments.replication.results import Measures, Results
from pgpack.picture import COLOURS, INK, SOFT_INK

from .one_seed import PACKED
from .tables import ADDED, BUILT, GATED, THEIR_GAPS, gains

SHARED = ("albert", "naive", "wo", "wt", "adapt", "albert-wide")
AT_EQUAL_BYTES = ("wt", "adapt", "naive", "albert-wide", "standard-narrow", "standard-shallow")
OTHERS = ("albert", "standard")
BLUE, ORANGE = COLOURS[0], COLOURS[1]


def draw(results: Results) -> None:
    """changes, bytes, packing and gates, as PNG and SVG."""
    for name, picture in {"changes": _changes, "bytes": _bytes, "packing": _packing, "gates": _gates}.items():
        picture(results.folder / name, results.measures)


def _dots(axes: Axes, y: float, values: tuple[float, ...], colour: str) -> None:
    mean = sum(values) / len(values)
    axes.plot([mean, mean], [y - 0.28, y + 0.28], color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot(values, [y] * len(values), "o", color=colour, markersize=5, alpha=0.55)


def _beside(axes: Axes, y: float, words: str, colour: str) -> None:
    """The name of a group of rows, at the right edge."""
    axes.text(1.0, y, words, color=colour, ha="right", va="bottom", fontweight="bold",
              transform=axes.get_yaxis_transform())  # fmt: skip


def _changes(path: Path, measures: Measures) -> None:
    title = "Gain of each change (right of 0), three seeds"
    with chart(path, title, "thousandths of a bit per byte that the loss falls by", "", 5.6) as axes:
        axes.axvline(0.0, color=SOFT_INK, linewidth=1.0)
        changes = (*BUILT, *ADDED)
        places = [-row - (row >= len(BUILT)) for row in range(len(changes))]
        for row, (place, (_, before, after)) in enumerate(zip(places, changes, strict=True)):
            _dots(axes, place, gains(measures, before, after).values, ORANGE if row >= len(BUILT) else BLUE)
        axes.set_yticks(places, [what for what, _, _ in changes])
        _beside(axes, 0.5, "added to naive", BLUE)
        _beside(axes, -len(BUILT) - 0.5, "added to wo", ORANGE)
        axes.set_ylim(places[-1] - 0.7, 1.4)


def _bytes(path: Path, measures: Measures) -> None:
    """Paired with wo, seed by seed; the size of each artifact stands beside its row."""
    title = "Packed loss less that of wo: sharing blocks (blue) and not sharing (orange)"
    with chart(path, title, "thousandths of a bit per byte; left of 0 is better than wo", "", 4.6) as axes:
        axes.axvline(0.0, color=SOFT_INK, linewidth=1.0)
        places: list[float] = []
        names: list[str] = []
        for group, (words, runs) in enumerate((("at the bytes of wo", AT_EQUAL_BYTES), ("at their own", OTHERS))):
            for run in runs:
                places.append(-len(places) - 1.0 * group)
                names.append(f"{run}, {measures[f'{run}.bytes'].mean / 1000:.0f} kB")
                values = gains(measures, run, "wo", "quantized_bpb").values
                _dots(axes, places[-1], values, BLUE if run in SHARED else ORANGE)
            _beside(axes, places[-len(runs)] + 0.45, words, INK)
        axes.set_yticks(places, names)
        axes.set_ylim(places[-1] - 0.6, 1.2)


def _packing(path: Path, measures: Measures) -> None:
    with drawing(path, 10.0, 4.2) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2), sharey=False)
        prepare(left, "Loss by packing to int6 and int8, here", "mBPB, three seeds", "")
        for row, run in enumerate(PACKED):
            _dots(left, -row, measures[f"{run}.gap_mbpb"].values, BLUE if run in SHARED else ORANGE)
        left.set_yticks([-row for row in range(len(PACKED))], PACKED)
        left.axvline(0.0, color=SOFT_INK, linewidth=1.0)
        prepare(right, "and in #2090", "mBPB", "")
        for row, (_, gap) in enumerate(THEIR_GAPS.items()):
            right.plot([gap], [-row], "D", color=INK, markersize=6)
        right.set_yticks([-row for row in range(len(THEIR_GAPS))], list(THEIR_GAPS))
        right.set_ylim(*left.get_ylim())
        right.set_xlim(left=0)


def _gates(path: Path, measures: Measures) -> None:
    title = "Without its penalty the gate goes elsewhere (dots: three seeds, ring: where it began)"
    names = ("penalty pulls to 0.5", "no penalty, from 0.5", "no penalty, from 0.9")
    with chart(path, title, "mean share of unpermuted q and k", "", 2.6) as axes:
        for row, run in enumerate(GATED):
            began = 0.9 if run.endswith("high") else 0.5
            axes.plot([began], [-row], "o", markerfacecolor="none", color=INK, markersize=13)
            _dots(axes, -row, measures[f"{run}.gate"].values, BLUE)
        axes.set_yticks([-row for row in range(len(GATED))], names)
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(-len(GATED) + 0.4, 0.6)
