"""The pictures of the study, each drawn from rows in results/ alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.replication.figures import drawing, prepare
from experiments.replication.results import Results
from pgpack.picture import COLOURS, INK, SOFT_INK

from .tables import CODEC_NAMES, by

SOURCE_BYTES, SOURCE_RISE = 15.175, 0.728  # MB: #212's int6 artifact, and what 3 % of pruning added there
BLUE, ORANGE, PURPLE, TEAL = COLOURS[:4]


def direct_label(axes: Axes, x: float, y: float, text: str, colour: str, **places: Any) -> None:
    """The name of a curve beside its point (x, y), in its colour."""
    options = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 10} | places
    axes.annotate(text, (x, y), color=colour, **options)


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def codebooks(results: Results, figure: Figure) -> None:
    """Bits per weight against KL, with zstd and with rANS."""
    rows = results.rows("codebooks")
    bits, kls = (by(rows, ("curve", "dial", "codec"), value) for value in ("bits_per_weight", "kl"))
    axes = figure.subplots(1, 2)
    for axis, codec in zip(axes, ("zstd", "rans"), strict=True):
        for curve, colour in (("int", BLUE), ("kmeans", ORANGE)):
            keys = [key for key in bits if key[0] == curve and key[2] == codec]
            x, y = [mean(bits[key]) for key in keys], [mean(kls[key]) for key in keys]
            axis.plot(x, y, "o-", color=colour)
            for (_, dial, _), px, py in zip(keys, x, y, strict=True):
                side = {"xytext": (-5, -7), "ha": "right", "va": "top"} if curve == "int" else {}
                text = f"int{dial}" if curve == "int" else f"{dial} values"
                direct_label(axis, px, py, text, colour, **({"xytext": (6, 5)} | side), fontsize=9)
        axis.set_yscale("log")
        axis.set_xlim(1.3, 9)
        y_name = "KL to the fp32 model (nats per token)" if codec == "zstd" else ""
        prepare(axis, f"through {CODEC_NAMES[codec]}", "bits per weight of the matrices", y_name)
    figure.suptitle("Codebooks lie right of integer grids: more bytes at every loss", x=0.01, ha="left", fontsize=12)


def equal_kl(results: Results, figure: Figure) -> None:
    """What codebooks cost under each codec at equal KL."""
    percents = by(results.rows("equal_kl"), ("codec",), "percent")
    axis = figure.subplots()
    for row, codec in enumerate(reversed(CODEC_NAMES)):
        values = percents[(codec,)]
        axis.barh(row, mean(values), height=0.6, color=ORANGE if codec == "rans" else COLOURS[4])
        axis.plot(values, [row] * len(values), "o", color=INK, markersize=4)
        direct_label(axis, max(*values, 0.0), row, f"{mean(values):+.1f} %", INK, xytext=(8, 0))
    axis.set_yticks(range(len(CODEC_NAMES)), list(reversed(CODEC_NAMES.values())))
    axis.axvline(0, color=INK, linewidth=1)
    axis.margins(x=0.12)
    axis.grid(axis="y", visible=False)
    prepare(
        axis,
        "Entropy coding does not rescue codebooks; without any codec they draw level",
        "bytes of k-means codebooks beyond integers, at equal KL (%; dots: seeds)",
        "",
    )


def pruning(results: Results, figure: Figure) -> None:
    """Bytes against sparsity, and what the grid had at 0 already."""
    rows = results.rows("pruning")
    changes = by([row for row in rows if row["codec"] == "zstd"], ("quantizer", "sparsity"), "change")
    left, right = figure.subplots(1, 2)
    colours = {"int6": BLUE, "int6, step floor": COLOURS[4], "GPTQ int6": TEAL, "k-means 256": ORANGE}
    for name, colour in colours.items():
        points = [(100 * float(s), [100 * v for v in values]) for (q, s), values in changes.items() if q == name]
        x, y = [0.0, *(s for s, _ in points)], [0.0, *(mean(v) for _, v in points)]
        left.plot(x, y, "o-", color=colour)
        direct_label(left, x[-1], y[-1], name, colour)
    source = [0.0, 100 * SOURCE_RISE / SOURCE_BYTES, 0.0]
    left.plot((1, 3, 5), source, "D--", color=SOFT_INK)
    direct_label(left, 3, source[1], "#212", SOFT_INK)
    left.set_xlim(-0.3, 14.5)
    prepare(left, "Pruning does not add bytes here", "weights pruned (%)", "bytes through zstd 22 (change, %)")
    shares = by(results.rows("already_zero"), ("quantizer", "sparsity"), "share")
    for name, colour in (("int6", BLUE), ("int8", PURPLE)):
        points = [(100 * float(s), 100 * mean(v)) for (q, s), v in shares.items() if q == name]
        right.plot(*zip(*points, strict=True), "o-", color=colour)
        direct_label(right, *points[-1], name, colour)
    right.set_xlim(0, 11.5)
    right.set_ylim(0, 105)
    prepare(right, "int6 had rounded them to 0 before", "weights pruned (%)", "of them 0 on the grid anyway (%)")


def embedding(results: Results, figure: Figure) -> None:
    """Spectrum beside a random table's, and the loss of truncation."""
    spectrum = results.rows("spectrum")
    left, right = figure.subplots(1, 2)
    for column, colour, name in (("learned", BLUE, "learned"), ("random", SOFT_INK, "random")):
        found = by(spectrum, ("rank",), column)
        x, y = [int(rank) for (rank,) in found], [100 * mean(values) for values in found.values()]
        left.plot(x, y, color=colour)
        middle = len(x) // 3
        place = {"xytext": (-8, 8), "ha": "right"} if column == "learned" else {"xytext": (8, -8)}
        direct_label(left, x[middle], y[middle], name, colour, **place)
    left.set_ylim(0, 102)
    prepare(
        left, "The table's spectrum beside a random one's", f"rank (the width is {x[-1]})", "variance captured (%)"
    )
    costs = by(results.rows("truncation"), ("rank",), "cost")
    ranks = [int(rank) for (rank,) in costs]
    right.plot(ranks, [mean(values) for values in costs.values()], "o-", color=BLUE)
    for (rank,), values in costs.items():
        right.plot([int(rank)] * len(values), values, ".", color=INK, markersize=3)
        direct_label(right, float(rank), mean(values), f"{mean(values):.2f}", INK, xytext=(5, 8))
    right.set_xlim(0, x[-1] * 1.1)
    prepare(right, "Loss after truncation", "rank kept", "bits per byte lost")


def loops(results: Results, figure: Figure) -> None:
    """Loss by number of passes."""
    losses = by(results.rows("loops"), ("model", "passes"), "bpb")
    axis = figure.subplots()
    labelled = (("flat", BLUE, -9), ("U-Net skips", ORANGE, 4), ("never looped", SOFT_INK, 4))
    for name, colour, lift in labelled:
        points = [(int(n), mean(values)) for (model, n), values in losses.items() if model == name]
        axis.plot(*zip(*points, strict=True), "o-", color=colour)
        for (model, n), values in losses.items():
            if model == name:
                axis.plot([int(n)] * len(values), values, ".", color=colour, markersize=3)
        direct_label(axis, *points[-1], name, colour, xytext=(6, lift))
    axis.axvline(3, color=INK, linewidth=1, linestyle=":")
    top = axis.get_ylim()[1]
    direct_label(axis, 3, top, "trained with 3 passes", INK, xytext=(5, -10))
    axis.set_xlim(0.7, 10.4)
    prepare(
        axis,
        "More passes than in training make a looped model worse (dots: seeds)",
        "passes through the three blocks at evaluation",
        "bits per byte",
    )


def averaging(results: Results, figure: Figure) -> None:
    """Loss that a bfloat16 accumulator adds."""
    costs = by(results.rows("averaging"), ("way", "snapshots"), "cost")
    axis = figure.subplots()
    for way, colour in (("sum in bf16", ORANGE), ("running mean in bf16", BLUE)):
        points = [(int(n), mean(values)) for (name, n), values in costs.items() if name == way]
        axis.plot(*zip(*points, strict=True), "o-", color=colour)
        direct_label(axis, *points[-1], way, colour)
    axis.axhline(0, color=INK, linewidth=1)
    axis.axvline(256, color=SOFT_INK, linewidth=1, linestyle=":")
    direct_label(
        axis,
        256,
        axis.get_ylim()[1],
        "2⁸ snapshots: one is half a unit of the sum",
        SOFT_INK,
        xytext=(-5, -8),
        ha="right",
    )
    axis.set_xscale("log", base=2)
    axis.set_xlim(14, 1400)
    axis.set_xticks([int(n) for (way, n) in costs if way == "sum in bf16"])
    axis.xaxis.set_major_formatter("{x:.0f}")
    prepare(
        axis,
        "A sum of snapshots in bfloat16 stops growing",
        "snapshots in the average",
        "bits per byte above the fp32 average",
    )


def exports(results: Results, figure: Figure) -> None:
    """The cost of each variant of the source's exporter."""
    costs = by(results.rows("exports"), ("bits", "floor", "table"), "cost")
    axis = figure.subplots()
    labels = []
    for row, ((bits, floor, table), values) in enumerate(reversed(costs.items())):
        stored = "fp16" if table == "fp16" else f"int{bits}"
        labels.append(f"int{bits}, {'floor 1/R' if floor else 'no floor'}, table {stored}")
        axis.plot([0, mean(values)], [row, row], color=ORANGE if floor else BLUE, linewidth=5, solid_capstyle="butt")
        axis.plot(values, [row] * len(values), "o", color=INK, markersize=4)
        direct_label(axis, max(values), row, f"{mean(values):+.4f}", INK, xytext=(8, 0))
    axis.set_yticks(range(len(labels)), labels)
    axis.grid(axis="y", visible=False)
    axis.margins(x=0.15)
    prepare(
        axis,
        "The step floor, not the number of bits, is what the export loses by",
        "bits per byte above the fp32 model (dots: seeds)",
        "",
    )


HEIGHTS = {codebooks: 5.0, equal_kl: 3.8, pruning: 4.6, embedding: 4.6, loops: 4.2, averaging: 4.2, exports: 4.4}
PICTURES: dict[str, Callable[[Results, Figure], None]] = {picture.__name__: picture for picture in HEIGHTS}


def draw(results: Results) -> None:
    """Every picture as results/NAME.png and NAME.svg."""
    for name, picture in PICTURES.items():
        with drawing(results.folder / name, height=HEIGHTS[picture]) as figure:
            picture(results, figure)
