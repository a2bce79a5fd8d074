"""The page of the short bench, from results/ alone: bytes against KL as a picture, one model per seed, and tables."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from experiments.replication.command import named
from experiments.replication.figures import chart, label
from experiments.replication.pages import markdown_table
from experiments.replication.results import Results
from experiments.replication.rows import Row, by
from pgpack.picture import COLOURS

from .curves import ENGINE
from .one_seed import ABLATIONS, PRESET_DIALS

SHOWN = (ENGINE, *PRESET_DIALS)
NAMES = {ENGINE: "this engine"}
MARKERS = ("o", "s", "^", "D", "v")
MARKS = (50, 75, 100, 150, 200, 300, 400, 500, 700, 1000, 1500)  # kB


def draw(results: Results) -> None:
    """frontier.png and frontier.svg."""
    rows = [row for row in results.rows("points") if row["curve"] in SHOWN]
    title = "The engine's files are smaller than the field's at every loss (one line per seed)"
    y_name = "KL to the fp32 model, nats per token"
    with chart(results.folder / "frontier", title, "artifact, kB", y_name, 5.6) as axes:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for name, colour, marker in zip(SHOWN, COLOURS, MARKERS, strict=False):
            _curves(axes, [row for row in rows if row["curve"] == name], colour, marker, NAMES.get(name, name))
        sizes = [float(row["n_bytes"]) / 1000 for row in rows]
        marks = [mark for mark in MARKS if min(sizes) * 0.8 <= mark <= max(sizes) * 1.2]
        axes.xaxis.set_major_locator(FixedLocator(marks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())


def _curves(axes: Axes, rows: Sequence[Row], colour: str, marker: str, name: str) -> None:
    kls = by(rows, ("seed",), "kl")
    for (seed,), sizes in by(rows, ("seed",), "n_bytes").items():
        own = sorted((size / 1000, kl) for size, kl in zip(sizes, kls[(seed,)], strict=True))
        alpha = 1.0 if seed == 1 else 0.45
        axes.plot(*zip(*own, strict=True), color=colour, marker=marker, markersize=5, linewidth=1.4, alpha=alpha)
        if seed == 1:
            label(axes, *own[0], name, colour, xytext=(9, 9), va="baseline", fontsize=11, fontweight="bold")


def _percent(results: Results, name: str) -> str:
    """Mean and standard deviation over seeds, a dash where the curves did not overlap."""
    if name not in results.measures:
        return "-"
    return f"{results.measures[name].shown(1, '+')} %"


def peers_table(results: Results) -> str:
    header = ("against", "bytes at equal KL", "at equal bits per byte")
    rows = [
        (f"`{name}`", *(_percent(results, f"against {name}.{metric}") for metric in ("kl", "bpb")))
        for name in PRESET_DIALS
    ]
    return markdown_table(header, rows, "lrr")


def ingredients_table(results: Results) -> str:
    header = (f"changed in `{ENGINE}`", "bytes at equal KL")
    rows = [(name, _percent(results, f"{name}.kl")) for name in ("tcq-8", *ABLATIONS)]
    return markdown_table(header, rows, "lr")


TABLES = named(peers_table, ingredients_table)
