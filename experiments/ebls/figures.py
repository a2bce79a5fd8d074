"""Pictures of the study: gammas over training, what they hide, what each freedom is worth, the parts of the gap."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.replication.figures import chart, drawing, prepare
from experiments.replication.results import Results
from experiments.replication.rows import Row, by
from pgpack.picture import COLOURS, INK, SOFT_INK

NAMES = {"attn": "attention", "mlp": "MLP"}
START = 0.1192
LOSS_RUNS = {
    "unshared": "nine blocks, nothing shared",
    "no-penalty": "no penalty (lambda = 0)",
    "fixed-gamma": "gamma stays 0.12, no penalty",
    "random-b": "B random at the start",
    "rank-1": "rank 1",
    "mute": "no branches, scales free",
    "frozen-scales": "branches, scales frozen",
    "shared": "no branches, one scale per block",
}
GAP_PARTS = {
    "swap": "averaged weights\nswapped in",
    "int6": "rounding\nto int6",
    "floor": "floor under\nthe steps",
    "rest": "rest: parts\nthat meet",
    "total": "the gap that\nis reported",
}


def draw(results: Results) -> None:
    """All four pictures."""
    for picture in (draw_gammas, draw_shares, draw_losses, draw_gap):
        picture(results)


def draw_gammas(results: Results) -> None:
    rows = results.rows("gammas")
    with drawing(results.folder / "gammas", height=5.2) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        _headline(figure, "Where a gamma acts on nothing it falls furthest: the branches that work hold theirs up")
        for axes, side in zip(panels, NAMES, strict=True):
            prepare(axes, NAMES[side], "training step", "gamma, mean of three seeds" if side == "attn" else "")
            for layer in range(9):
                own = [row for row in rows if row["layer"] == layer]
                style = ("-", "--", ":")[layer % 3]
                axes.plot(*_course(own, "ebls", side), color=COLOURS[layer // 3], linewidth=1.5, linestyle=style)
            for run, colour, text, at in (
                ("mute", "black", "acts on nothing (control)", (0.30, 0.10)),
                ("no-penalty", SOFT_INK, "no penalty (control)", (0.5, 0.84)),
            ):
                axes.plot(*_course(rows, run, side), color=colour, linewidth=3.0)
                _say(axes, *at, text, colour, fontsize=10)
            for block in range(3):
                text = f"block {block}: layers {3 * block}-{3 * block + 2}"
                _say(axes, 0.03, 0.30 - 0.065 * block, text, COLOURS[block], fontsize=10)
            axes.set_yscale("log")
            _plain_ticks(axes, (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
        low = min(float(row["gamma"]) for row in rows if row["run"] in ("ebls", "mute"))
        high = max(max(_course(rows, "no-penalty", side)[1]) for side in NAMES)
        panels[0].set_ylim(low * 0.8, max(high, START) * 1.35)


def _headline(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontweight="bold", fontsize=13)


def _say(axes: Axes, x: float, y: float, text: str, colour: str, **font: Any) -> None:
    """Bold words at (x, y), shares of the panel."""
    axes.text(x, y, text, color=colour, transform=axes.transAxes, fontweight="bold", **font)


def _course(rows: Sequence[Row], run: str, side: str) -> tuple[list[int], list[float]]:
    """Steps and mean gamma, from the start on."""
    gammas = by([row for row in rows if (row["run"], row["side"]) == (run, side)], ("step",), "gamma")
    steps = sorted(int(step) for (step,) in gammas)
    return [0, *steps], [START, *(fmean(gammas[(step,)]) for step in steps)]


def draw_shares(results: Results) -> None:
    rows = results.rows("branches")
    last = max(int(row["step"]) for row in rows)
    final = [row for row in rows if row["run"] == "ebls" and row["step"] == last]
    with drawing(results.folder / "shares", height=5.0) as figure:
        panels = figure.subplots(1, 2)
        _headline(figure, "Gamma looks like sharing; what the branches add to the output does not")
        titles = {"gamma": "what is reported: gamma", "share": "what acts: |branch| / |module's output| on text"}
        for axes, (what, title) in zip(panels, titles.items(), strict=True):
            prepare(axes, title, "virtual layer", "")
            for side, colour, shift in (("attn", COLOURS[0], -0.12), ("mlp", COLOURS[1], 0.12)):
                own = [row for row in final if row["side"] == side]
                means = [fmean(values) for values in by(own, ("layer",), what).values()]
                axes.plot([layer + shift for layer in range(9)], means, color=colour, linewidth=1.8)
                x = [int(row["layer"]) + shift for row in own]
                axes.plot(x, [float(row[what]) for row in own], "o", color=colour, markersize=4.5, alpha=0.6)
            axes.set_yscale("log")
            axes.set_ylim(0.004, 3.0)
            _plain_ticks(axes, (0.01, 0.1, 1.0), ("1 %", "10 %", "100 %"))
            axes.xaxis.set_major_locator(FixedLocator(range(9)))
        _say(panels[0], 0.55, 0.92, "attention", COLOURS[0])
        _say(panels[0], 0.55, 0.85, "MLP", COLOURS[1])
        panels[0].text(0.55, 0.78, "dots: seeds", color=SOFT_INK, transform=panels[0].transAxes)


def draw_losses(results: Results) -> None:
    title = "What each freedom is worth: loss against the study's model (dots: seeds)"
    x_name = "bits per byte more than EBLS (left: better)"
    with chart(results.folder / "losses", title, x_name, "", 4.6) as axes:
        for place, (run, name) in enumerate(reversed(LOSS_RUNS.items())):
            measured = results.measures[f"{run}-less-ebls.bpb"]
            axes.barh(place, measured.mean, color=COLOURS[3 if measured.mean < 0 else 1], alpha=0.35, height=0.62)
            axes.plot(measured.values, [place] * len(measured.values), "o", color=INK, markersize=5)
            axes.text(-0.01, place, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
        axes.axvline(0.0, color=INK, linewidth=1.2)
        axes.yaxis.set_major_locator(NullLocator())
        axes.grid(False, axis="y")


def draw_gap(results: Results) -> None:
    title = "The gap of packing, part by part: most of it is no rounding (dots: seeds)"
    with chart(results.folder / "gap", title, "", "bits per byte", 4.8) as axes:
        for group, colour, shift, name, y in (
            ("gap", COLOURS[0], -0.19, "with QAT (the study)", 0.92),
            ("gap-no-qat", COLOURS[1], 0.19, "without QAT", 0.85),
        ):
            for place, part in enumerate(GAP_PARTS):
                measured = results.measures[f"{group}.{part}"]
                axes.bar(place + shift, measured.mean, color=colour, alpha=0.4, width=0.34)
                axes.plot([place + shift] * len(measured.values), measured.values, "o", color=colour, markersize=5)
            _say(axes, 0.42, y, name, colour)
        axes.axhline(0.0, color=INK, linewidth=1.2)
        axes.set_xticks(range(len(GAP_PARTS)), list(GAP_PARTS.values()), color=INK)
        axes.grid(False, axis="x")


def _plain_ticks(axes: Axes, values: Sequence[float], names: Sequence[str] | None = None) -> None:
    axes.yaxis.set_major_locator(FixedLocator(list(values)))
    axes.yaxis.set_minor_locator(NullLocator())
    labels = dict(zip(values, names, strict=True)) if names else {}
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: labels.get(value, f"{value:g}")))
