"""Figures of the studies: one style, written as PNG for the page and as SVG for everything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pgpack.report.picture import GRID, STYLE, figure_bytes


@contextmanager
def drawing(path: Path, width: float = 10.0, height: float = 5.0) -> Iterator[Figure]:
    """A figure in the style of the house; after the block it is saved as PATH.png and PATH.svg.

    Units: inches of 90 pixels, so that 10 inches are shown 900 wide.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=90, layout="constrained", facecolor="white")
        yield figure
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write PATH.png and PATH.svg; equal figures give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".png").write_bytes(figure_bytes(figure, ".png", dpi=180))
    path.with_suffix(".svg").write_bytes(figure_bytes(figure, ".svg"))


def prepare(axes: Axes, title: str, x: str, y: str) -> None:
    """Title to the left, names of the axes with their units, a quiet grid."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
