"""The pictures of the page: every seed is a dot, its mean a bar across."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from experiments.study.figures import drawing, prepare
from experiments.study.measures import Measures
from pgpack.picture import COLOURS, INK, SOFT_INK

from .one_seed import PACKED
from .tables import ADDED, BUILT, GATED, THEIR_GAPS, gains

SHARED = ("albert", "naive", "wo", "wt", "adapt", "albert-wide")
BLUE, ORANGE = COLOURS[0], COLOURS[1]


def draw(results: Path, measures: Measures) -> None:
    """changes, bytes, packing and gates, as PNG and SVG."""
    _changes(results / "changes", measures)
    _bytes(results / "bytes", measures)
    _packing(results / "packing", measures)
    _gates(results / "gates", measures)


def _dots(axes: Axes, y: float, values: tuple[float, ...], colour: str) -> None:
    mean = sum(values) / len(values)
    axes.plot([mean, mean], [y - 0.28, y + 0.28], color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot(values, [y] * len(values), "o", color=colour, markersize=5, alpha=0.55)


def _changes(path: Path, measures: Measures) -> None:
    with drawing(path, 10.0, 5.6) as figure:
        axes = figure.subplots()
        title = "What each change of the shared model gains (right of 0) or loses, three seeds"
        prepare(axes, title, "bits per byte gained, thousandths", "")
        axes.axvline(0.0, color=SOFT_INK, linewidth=1.0)
        places, names = [], []
        for place, (what, before, after) in enumerate((*BUILT, *ADDED)):
            added = place >= len(BUILT)
            places.append(-place - added)
            names.append(what)
            _dots(axes, places[-1], gains(measures, before, after).values, ORANGE if added else BLUE)
        axes.set_yticks(places, names)
        for place, words, colour in ((0, "added to naive", BLUE), (-len(BUILT) - 1, "added to wo", ORANGE)):
            axes.text(1.0, place + 0.5, words, color=colour, ha="right", va="bottom", fontweight="bold",
                      transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set_ylim(places[-1] - 0.7, 1.4)


def _bytes(path: Path, measures: Measures) -> None:
    with drawing(path, 10.0, 5.0) as figure:
        axes = figure.subplots()
        title = "Packed loss against artifact size: sharing blocks (blue) and not sharing (orange)"
        prepare(axes, title, "artifact, kB", "bits per byte after packing")
        for run in PACKED:
            kilobytes, loss = measures[f"{run}.bytes"].mean / 1000, measures[f"{run}.quantized_bpb"]
            colour = BLUE if run in SHARED else ORANGE
            axes.errorbar(kilobytes, loss.mean, yerr=loss.std, fmt="o", color=colour, markersize=7, capsize=3)
            dx, dy, align = LABELS.get(run, (8, 4, "left"))
            axes.annotate(run, (kilobytes, loss.mean), (dx, dy), textcoords="offset points", color=colour, ha=align)
        axes.margins(x=0.12, y=0.1)


LABELS: dict[str, tuple[int, int, str]] = {}


def _packing(path: Path, measures: Measures) -> None:
    with drawing(path, 10.0, 4.2) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2), sharey=False)
        prepare(left, "Loss by int6 and int8 packing here", "mBPB, three seeds", "")
        for row, run in enumerate(PACKED):
            _dots(left, -row, measures[f"{run}.gap_mbpb"].values, BLUE if run in SHARED else ORANGE)
        left.set_yticks([-row for row in range(len(PACKED))], PACKED)
        left.set_xlim(left=0)
        prepare(right, "and in #2090", "mBPB", "")
        for row, (_, gap) in enumerate(THEIR_GAPS.items()):
            right.plot([gap], [-row], "D", color=INK, markersize=6)
        right.set_yticks([-row for row in range(len(THEIR_GAPS))], list(THEIR_GAPS))
        right.set_ylim(*left.get_ylim())
        right.set_xlim(left=0)


def _gates(path: Path, measures: Measures) -> None:
    with drawing(path, 10.0, 2.6) as figure:
        axes = figure.subplots()
        title = "Gates after training (dots: seeds) stay near where they began (ring)"
        prepare(axes, title, "mean share of unpermuted q and k", "")
        names = {
            "adapt": "penalty pulls to 0.5",
            "adapt-free": "no penalty, from 0.5",
            "adapt-free-high": "no penalty, from 0.9",
        }
        for row, run in enumerate(GATED):
            began = 0.9 if run.endswith("high") else 0.5
            axes.plot([began], [-row], "o", markerfacecolor="none", color=INK, markersize=13)
            _dots(axes, -row, measures[f"{run}.gate"].values, BLUE)
        axes.set_yticks([-row for row in range(len(GATED))], [names[run] for run in GATED])
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(-len(GATED) + 0.4, 0.6)
