"""Pictures of the study: gammas over training, what they hide, what each freedom is worth, the parts of the gap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.replication.figures import drawing, prepare
from experiments.replication.measures import Measures
from experiments.replication.results import Results
from experiments.replication.rows import Row
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
    draw_gammas(results.folder / "gammas", results.rows("gammas"))
    draw_shares(results.folder / "shares", results.rows("branches"))
    draw_losses(results.folder / "losses", results.measures)
    draw_gap(results.folder / "gap", results.measures)


def draw_gammas(path: Path, rows: Sequence[Row]) -> None:
    with drawing(path, height=5.2) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        figure.suptitle(
            "Where a gamma acts on nothing it falls furthest: the branches that work hold theirs up",
            x=0.01, ha="left", fontweight="bold", fontsize=13,
        )  # fmt: skip
        for axes, side in zip(panels, NAMES, strict=True):
            prepare(axes, NAMES[side], "training step", "gamma, mean of three seeds" if side == "attn" else "")
            for layer in range(9):
                x, y = _course(rows, "ebls", side, layer)
                colour = COLOURS[layer // 3]
                axes.plot(x, y, color=colour, linewidth=1.5, linestyle=("-", "--", ":")[layer % 3])
            _labelled(axes, _course(rows, "mute", side), "black", "acts on nothing (control)", (0.30, 0.10))
            _labelled(axes, _course(rows, "no-penalty", side), SOFT_INK, "no penalty (control)", (0.5, 0.84))
            for block in range(3):
                text = f"block {block}: layers {3 * block}-{3 * block + 2}"
                axes.text(
                    0.03, 0.30 - 0.065 * block, text, color=COLOURS[block], transform=axes.transAxes, fontsize=10,
                    fontweight="bold",
                )  # fmt: skip
            axes.set_yscale("log")
            _plain_ticks(axes, (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
        low = min(float(row["gamma"]) for row in rows if row["run"] in ("ebls", "mute"))
        high = max(max(_course(rows, "no-penalty", side)[1]) for side in NAMES)
        panels[0].set_ylim(low * 0.8, max(high, START) * 1.35)


def _course(rows: Sequence[Row], run: str, side: str, layer: int | None = None) -> tuple[list[int], list[float]]:
    """Steps and mean gamma, of one layer or of all."""
    own = [r for r in rows if r["run"] == run and r["side"] == side and (layer is None or r["layer"] == layer)]
    steps = sorted({int(row["step"]) for row in own})
    means = [fmean(float(row["gamma"]) for row in own if row["step"] == step) for step in steps]
    return [0, *steps], [START, *means]


def _labelled(
    axes: Axes, course: tuple[list[int], list[float]], colour: str, text: str, at: tuple[float, float]
) -> None:
    axes.plot(*course, color=colour, linewidth=3.0)
    axes.text(*at, text, color=colour, fontsize=10, fontweight="bold", transform=axes.transAxes)


def draw_shares(path: Path, rows: Sequence[Row]) -> None:
    last = max(int(row["step"]) for row in rows)
    final = [row for row in rows if row["run"] == "ebls" and row["step"] == last]
    with drawing(path, height=5.0) as figure:
        panels = figure.subplots(1, 2)
        figure.suptitle(
            "Gamma looks like sharing; what the branches add to the output does not",
            x=0.01, ha="left", fontweight="bold", fontsize=13,
        )  # fmt: skip
        titles = {"gamma": "what is reported: gamma", "share": "what acts: |branch| / |module's output| on text"}
        for axes, (what, title) in zip(panels, titles.items(), strict=True):
            prepare(axes, title, "virtual layer", "")
            for side, colour, shift in (("attn", COLOURS[0], -0.12), ("mlp", COLOURS[1], 0.12)):
                _dots(axes, [row for row in final if row["side"] == side], what, colour, shift)
            axes.set_yscale("log")
            axes.set_ylim(0.004, 3.0)
            _plain_ticks(axes, (0.01, 0.1, 1.0), ("1 %", "10 %", "100 %"))
            axes.xaxis.set_major_locator(FixedLocator(range(9)))
        panels[0].text(0.55, 0.92, "attention", color=COLOURS[0], transform=panels[0].transAxes, fontweight="bold")
        panels[0].text(0.55, 0.85, "MLP", color=COLOURS[1], transform=panels[0].transAxes, fontweight="bold")
        panels[0].text(0.55, 0.78, "dots: seeds", color=SOFT_INK, transform=panels[0].transAxes)


def _dots(axes: Axes, rows: Sequence[Row], what: str, colour: str, shift: float) -> None:
    layers = range(9)
    means = [fmean(float(row[what]) for row in rows if row["layer"] == layer) for layer in layers]
    axes.plot([layer + shift for layer in layers], means, color=colour, linewidth=1.8)
    x = [int(row["layer"]) + shift for row in rows]
    axes.plot(x, [float(row[what]) for row in rows], "o", color=colour, markersize=4.5, alpha=0.6)


def draw_losses(path: Path, measures: Measures) -> None:
    with drawing(path, height=4.6) as figure:
        axes = figure.subplots()
        title = "What each freedom is worth: loss against the study's model (dots: seeds)"
        prepare(axes, title, "bits per byte more than EBLS (left: better)", "")
        for place, (run, name) in enumerate(reversed(LOSS_RUNS.items())):
            measured = measures[f"{run}-less-ebls.bpb"]
            axes.barh(place, measured.mean, color=COLOURS[3 if measured.mean < 0 else 1], alpha=0.35, height=0.62)
            axes.plot(measured.values, [place] * len(measured.values), "o", color=INK, markersize=5)
            axes.text(-0.01, place, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
        axes.axvline(0.0, color=INK, linewidth=1.2)
        axes.yaxis.set_major_locator(NullLocator())
        axes.grid(False, axis="y")


def draw_gap(path: Path, measures: Measures) -> None:
    with drawing(path, height=4.8) as figure:
        axes = figure.subplots()
        title = "The gap of packing, part by part: most of it is no rounding (dots: seeds)"
        prepare(axes, title, "", "bits per byte")
        for group, colour, shift, name in (
            ("gap", COLOURS[0], -0.19, "with QAT (the study)"),
            ("gap-no-qat", COLOURS[1], 0.19, "without QAT"),
        ):
            for place, part in enumerate(GAP_PARTS):
                measured = measures[f"{group}.{part}"]
                axes.bar(place + shift, measured.mean, color=colour, alpha=0.4, width=0.34)
                axes.plot([place + shift] * len(measured.values), measured.values, "o", color=colour, markersize=5)
            axes.text(
                0.42, 0.92 if group == "gap" else 0.85, name, color=colour, transform=axes.transAxes,
                fontweight="bold",
            )  # fmt: skip
        axes.axhline(0.0, color=INK, linewidth=1.2)
        axes.set_xticks(range(len(GAP_PARTS)), list(GAP_PARTS.values()), color=INK)
        axes.grid(False, axis="x")


def _plain_ticks(axes: Axes, values: Sequence[float], names: Sequence[str] | None = None) -> None:
    axes.yaxis.set_major_locator(FixedLocator(list(values)))
    axes.yaxis.set_minor_locator(NullLocator())
    labels = dict(zip(values, names, strict=True)) if names else {}
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: labels.get(value, f"{value:g}")))
