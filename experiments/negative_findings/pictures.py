"""The pictures of the study, each drawn from rows in results/ alone."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from experiments.replication.figures import chart, drawing, label, prepare
from experiments.replication.results import Results
from experiments.replication.rows import Key, by
from pgpack.picture import COLOURS, INK, SOFT_INK

from .tables import CODEC_NAMES

SOURCE_BYTES, SOURCE_RISE = 15.175, 0.728  # MB: #212's int6 artifact, and what 3 % of pruning added there
BLUE, ORANGE, PURPLE, TEAL = COLOURS[:4]
Groups = Mapping[Key, list[float]]  # of all seeds


def draw(results: Results) -> None:
    """Every picture as results/NAME.png and NAME.svg."""
    for picture in (codebooks, equal_kl, pruning, embedding, loops, averaging, exports):
        picture(results)


def _curve(axes: Axes, groups: Groups, name: str, colour: str, **places: Any) -> None:
    """Means over seeds of the groups (name, x), joined; the name stands at their end."""
    points = [(float(x), fmean(values)) for (of, x), values in groups.items() if of == name]
    axes.plot(*zip(*points, strict=True), "o-", color=colour)
    label(axes, *points[-1], name, colour, **places)


def _percent(groups: Groups) -> Groups:
    return {(name, 100 * float(x)): [100 * value for value in values] for (name, x), values in groups.items()}


def codebooks(results: Results) -> None:
    """Bits per weight against KL, with zstd and with rANS."""
    rows = results.rows("codebooks")
    bits, kls = (by(rows, ("curve", "dial", "codec"), value) for value in ("bits_per_weight", "kl"))
    with drawing(results.folder / "codebooks") as figure:
        for axis, codec in zip(figure.subplots(1, 2), ("zstd", "rans"), strict=True):
            y_name = "KL to the fp32 model (nats per token)" if codec == "zstd" else ""
            prepare(axis, f"through {CODEC_NAMES[codec]}", "bits per weight of the matrices", y_name)
            for curve, colour in (("int", BLUE), ("kmeans", ORANGE)):
                keys = [key for key in bits if key[0] == curve and key[2] == codec]
                x, y = [fmean(bits[key]) for key in keys], [fmean(kls[key]) for key in keys]
                axis.plot(x, y, "o-", color=colour)
                for (_, dial, _), px, py in zip(keys, x, y, strict=True):
                    side = {"xytext": (-5, -7), "ha": "right", "va": "top"} if curve == "int" else {}
                    text = f"int{dial}" if curve == "int" else f"{dial} values"
                    label(axis, px, py, text, colour, **({"xytext": (6, 5)} | side), fontsize=9)
            axis.set_yscale("log")
            axis.set_xlim(1.3, 9)
        title = "Codebooks lie right of integer grids: more bytes at every loss"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)


def equal_kl(results: Results) -> None:
    """What codebooks cost under each codec at equal KL."""
    percents = by(results.rows("equal_kl"), ("codec",), "percent")
    title = "Entropy coding does not rescue codebooks; without any codec they draw level"
    x_name = "bytes of k-means codebooks beyond integers, at equal KL (%; dots: seeds)"
    with chart(results.folder / "equal_kl", title, x_name, "", 3.8) as axis:
        for row, codec in enumerate(reversed(CODEC_NAMES)):
            values = percents[(codec,)]
            axis.barh(row, fmean(values), height=0.6, color=ORANGE if codec == "rans" else COLOURS[4])
            axis.plot(values, [row] * len(values), "o", color=INK, markersize=4)
            label(axis, max(*values, 0.0), row, f"{fmean(values):+.1f} %", INK, xytext=(8, 0))
        axis.set_yticks(range(len(CODEC_NAMES)), list(reversed(CODEC_NAMES.values())))
        axis.axvline(0, color=INK, linewidth=1)
        axis.margins(x=0.12)


def pruning(results: Results) -> None:
    """Bytes against sparsity, and what the grid had at 0 already."""
    rows = [row for row in results.rows("pruning") if row["codec"] == "zstd"]
    colours = {"int6": BLUE, "int6, step floor": COLOURS[4], "GPTQ int6": TEAL, "k-means 256": ORANGE}
    unpruned: dict[Key, list[float]] = {(name, 0.0): [0.0] for name in colours}
    changes = unpruned | dict(_percent(by(rows, ("quantizer", "sparsity"), "change")))
    shares = _percent(by(results.rows("already_zero"), ("quantizer", "sparsity"), "share"))
    with drawing(results.folder / "pruning", height=4.6) as figure:
        left, right = figure.subplots(1, 2)
        prepare(left, "Pruning does not add bytes here", "weights pruned (%)", "bytes through zstd 22 (change, %)")
        for name, colour in colours.items():
            _curve(left, changes, name, colour)
        source = [0.0, 100 * SOURCE_RISE / SOURCE_BYTES, 0.0]
        left.plot((1, 3, 5), source, "D--", color=SOFT_INK)
        label(left, 3, source[1], "#212", SOFT_INK)
        left.set_xlim(-0.3, 14.5)
        title = "int6 had rounded them to 0 before"
        prepare(right, title, "weights pruned (%)", "of them 0 on the grid anyway (%)")
        for name, colour in (("int6", BLUE), ("int8", PURPLE)):
            _curve(right, shares, name, colour)
        right.set_xlim(0, 11.5)
        right.set_ylim(0, 105)


def embedding(results: Results) -> None:
    """Spectrum beside a random table's, and the loss of truncation."""
    spectrum = results.rows("spectrum")
    width = len({row["rank"] for row in spectrum})
    costs = by(results.rows("truncation"), ("rank",), "cost")
    with drawing(results.folder / "embedding", height=4.6) as figure:
        left, right = figure.subplots(1, 2)
        title = "The table's spectrum beside a random one's"
        prepare(left, title, f"rank (the width is {width})", "variance captured (%)")
        right_of, left_of = {"xytext": (8, -8)}, {"xytext": (-8, 8), "ha": "right"}
        for column, colour, place in (("learned", BLUE, left_of), ("random", SOFT_INK, right_of)):
            y = [100 * fmean(values) for values in by(spectrum, ("rank",), column).values()]
            left.plot(range(1, width + 1), y, color=colour)
            label(left, width // 3 + 1, y[width // 3], column, colour, **place)
        left.set_ylim(0, 102)
        prepare(right, "Loss after truncation", "rank kept", "bits per byte lost")
        right.plot([int(rank) for (rank,) in costs], [fmean(values) for values in costs.values()], "o-", color=BLUE)
        for (rank,), values in costs.items():
            right.plot([int(rank)] * len(values), values, ".", color=INK, markersize=3)
            label(right, float(rank), fmean(values), f"{fmean(values):.2f}", INK, xytext=(5, 8))
        right.set_xlim(0, width * 1.1)


def loops(results: Results) -> None:
    """Loss by number of passes."""
    losses = by(results.rows("loops"), ("model", "passes"), "bpb")
    title = "More passes than in training make a looped model worse (dots: seeds)"
    x_name = "passes through the three blocks at evaluation"
    with chart(results.folder / "loops", title, x_name, "bits per byte", 4.2) as axis:
        for name, colour, lift in (("flat", BLUE, -9), ("U-Net skips", ORANGE, 4), ("never looped", SOFT_INK, 4)):
            _curve(axis, losses, name, colour, xytext=(6, lift))
            for (model, n), values in losses.items():
                if model == name:
                    axis.plot([int(n)] * len(values), values, ".", color=colour, markersize=3)
        axis.axvline(3, color=INK, linewidth=1, linestyle=":")
        label(axis, 3, axis.get_ylim()[1], "trained with 3 passes", INK, xytext=(5, -10))
        axis.set_xlim(0.7, 10.4)


def averaging(results: Results) -> None:
    """Loss that a bfloat16 accumulator adds."""
    costs = by(results.rows("averaging"), ("way", "snapshots"), "cost")
    title, x_name = "A sum of snapshots in bfloat16 stops growing", "snapshots in the average"
    with chart(results.folder / "averaging", title, x_name, "bits per byte above the fp32 average", 4.2) as axis:
        for way, colour in (("sum in bf16", ORANGE), ("running mean in bf16", BLUE)):
            _curve(axis, costs, way, colour)
        axis.axhline(0, color=INK, linewidth=1)
        axis.axvline(256, color=SOFT_INK, linewidth=1, linestyle=":")
        text = "2⁸ snapshots: one is half a unit of the sum"
        label(axis, 256, axis.get_ylim()[1], text, SOFT_INK, xytext=(-5, -8), ha="right")
        axis.set_xscale("log", base=2)
        axis.set_xlim(14, 1400)
        axis.set_xticks([int(n) for (way, n) in costs if way == "sum in bf16"])
        axis.xaxis.set_major_formatter("{x:.0f}")


def exports(results: Results) -> None:
    """The cost of each variant of the source's exporter."""
    costs = by(results.rows("exports"), ("bits", "floor", "table"), "cost")
    title = "The step floor, not the number of bits, is what the export loses by"
    with chart(
        results.folder / "exports", title, "bits per byte above the fp32 model (dots: seeds)", "", 4.4
    ) as axis:
        labels = []
        for row, ((bits, floor, table), values) in enumerate(reversed(costs.items())):
            stored = "fp16" if table == "fp16" else f"int{bits}"
            labels.append(f"int{bits}, {'floor 1/R' if floor else 'no floor'}, table {stored}")
            colour = ORANGE if floor else BLUE
            axis.plot([0, fmean(values)], [row, row], color=colour, linewidth=5, solid_capstyle="butt")
            axis.plot(values, [row] * len(values), "o", color=INK, markersize=4)
            label(axis, max(values), row, f"{fmean(values):+.4f}", INK, xytext=(8, 0))
        axis.set_yticks(range(len(labels)), labels)
        axis.margins(x=0.15)
