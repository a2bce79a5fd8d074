"""The frontier of the short bench as a picture: bytes against KL, engine and field packers, one model per seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from experiments.replication.figures import drawing, prepare
from experiments.replication.results import Results
from experiments.replication.rows import Row
from pgpack.picture import COLOURS

from .curves import ENGINE
from .short import PRESET_DIALS

SHOWN = (ENGINE, *PRESET_DIALS)
NAMES = {ENGINE: "this engine"}
MARKERS = ("o", "s", "^", "D", "v")


def draw(results: Results) -> None:
    """frontier.png and frontier.svg."""
    rows = results.rows("points")
    with drawing(results.folder / "frontier", height=5.6) as figure:
        axes = figure.subplots()
        title = "The engine's files are smaller than the field's at every loss (one line per seed)"
        prepare(axes, title, "artifact, kB", "KL to the fp32 model, nats per token")
        axes.set_xscale("log")
        axes.set_yscale("log")
        for name, colour, marker in zip(SHOWN, COLOURS, MARKERS, strict=False):
            _curves(axes, [row for row in rows if row["curve"] == name], colour, marker, NAMES.get(str(name), name))
        axes.xaxis.set_major_locator(_kilobytes(rows))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())


def _curves(axes: Axes, rows: Sequence[Row], colour: str, marker: str, name: str) -> None:
    for seed in sorted({int(row["seed"]) for row in rows}):
        own = sorted((float(r["n_bytes"]) / 1000, float(r["kl"])) for r in rows if r["seed"] == seed)
        x, y = np.array(own).T
        axes.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=1.4, alpha=1.0 if seed == 1 else 0.45)
        if seed == 1:
            axes.annotate(
                name, (x[0], y[0]), xytext=(9, 9), textcoords="offset points", color=colour, fontsize=11,
                fontweight="bold",
            )  # fmt: skip


def _kilobytes(rows: Sequence[Row]) -> FixedLocator:
    sizes = [float(row["n_bytes"]) / 1000 for row in rows if row["curve"] in SHOWN]
    marks = [50, 75, 100, 150, 200, 300, 400, 500, 700, 1000, 1500]
    return FixedLocator([mark for mark in marks if min(sizes) * 0.8 <= mark <= max(sizes) * 1.2])
