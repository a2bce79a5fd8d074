"""Figures of the studies: one style, written as PNG for the page and as SVG for everything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pgpack.picture import GRID, STYLE, figure_bytes


@contextmanager
def drawing(path: Path, width: float = 10.0, height: float = 5.0) -> Iterator[Figure]:
    """A figure in the style of the house; after the block it is saved as PATH.png and PATH.svg.

    Units: inches of 90 pixels, so that 10 inches are shown 900 wide. Equal figures give equal bytes.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=90, layout="constrained", facecolor="white")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        for ending in (".png", ".svg"):
            path.with_suffix(ending).write_bytes(figure_bytes(figure, ending, dpi=180))


@contextmanager
def chart(path: Path, title: str, x: str, y: str, height: float) -> Iterator[Axes]:
    """The axes of a drawing that has only one, prepared."""
    with drawing(path, height=height) as figure:
        axes = figure.subplots()
        prepare(axes, title, x, y)
        yield axes


def prepare(axes: Axes, title: str, x: str, y: str) -> None:
    """Title to the left, names of the axes with their units, a quiet grid."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def label(axes: Axes, x: float, y: float, text: str, colour: str, **places: Any) -> None:
    """The name of a curve beside its point (x, y), in its colour."""
    own: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 10}
    axes.annotate(text, (x, y), color=colour, **own | places)
