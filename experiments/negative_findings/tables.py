"""The data tables of the README, each a function of results/ alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from experiments.replication.command import named
from experiments.replication.pages import markdown_table
from experiments.replication.results import Measured, Results
from experiments.replication.rows import Key, by

Groups = Mapping[Key, list[float]]  # of all seeds
Pivot = tuple[list[str], list[list[str]]]
CODEC_NAMES = {
    "zstd": "zstd 22",
    "brotli": "brotli 11",
    "lzma": "LZMA 9",
    "zlib": "zlib 9",
    "bits": "packed bits",
    "rans": "rANS",
}


def spread(values: Sequence[float], digits: int, sign: str = "") -> str:
    """Mean ± standard deviation over seeds."""
    return Measured(tuple(values)).shown(digits, sign)


def percent(values: Sequence[float], digits: int, sign: str = "") -> str:
    """The same of shares, in percent."""
    return f"{spread([100 * value for value in values], digits, sign)} %"


def _pivot(groups: Groups, columns: Callable[[Any], str], cell: Callable[[Sequence[float]], str]) -> Pivot:
    """(a heading per last key, ascending; a row per combination of the others)."""
    lasts = sorted({key[-1] for key in groups})
    firsts = dict.fromkeys(key[:-1] for key in groups)
    rows = [
        [*(CODEC_NAMES.get(str(name), str(name)) for name in first), *(cell(groups[*first, last]) for last in lasts)]
        for first in firsts
    ]
    return [columns(last) for last in lasts], rows


def trainings(results: Results) -> str:
    """Every run with its loss."""
    losses = by(results.rows("trainings"), ("run", "parameters"), "bpb")
    table = [
        (str(run), f"{parameters:,}", spread(values, 4), results.study.purposes[str(run)])
        for (run, parameters), values in losses.items()
    ]
    return markdown_table(("run", "parameters", "bits per byte", "what it is for"), table, "lrrl")


def codebooks(results: Results) -> str:
    """Bits per weight of three points under each codec, and the mean difference at equal KL."""
    sizes = by(results.rows("codebooks"), ("curve", "dial", "codec"), "bits_per_weight")
    percents = by(results.rows("equal_kl"), ("codec",), "percent")
    points = (("int", 6), ("kmeans", 256), ("int", 8), ("kmeans", 64))
    table = [
        (name, *(spread(sizes[*point, codec], 3) for point in points), f"{spread(percents[(codec,)], 1, '+')} %")
        for codec, name in CODEC_NAMES.items()
    ]
    header = ("codec", "int6", "k-means 256", "int8", "k-means 64", "k-means against int at equal KL")
    return markdown_table(header, table, "lrrrrr")


def losses(results: Results) -> str:
    """Relative squared error and KL of the points of both curves."""
    rows = [row for row in results.rows("codebooks") if row["codec"] == "rans"]
    names = {"int": "int, bits", "kmeans": "k-means, values", "sdclip": "std grid, clip", "vectors": "pairs, values"}
    sizes, errors, kls = (by(rows, ("curve", "dial"), value) for value in ("bits_per_weight", "mse", "kl"))
    table = [
        (
            names[str(curve)],
            f"{dial:g}",
            spread(size, 3),
            *(f"{fmean(each[curve, dial]):.2e}" for each in (errors, kls)),
        )
        for (curve, dial), size in sizes.items()
    ]
    return markdown_table(("grid", "dial", "bits per weight, rANS", "squared error", "KL"), table, "lrrrr")


def pruning(results: Results) -> str:
    """Change of bytes by quantizer and codec."""
    changes = by(results.rows("pruning"), ("quantizer", "codec", "sparsity"), "change")
    sparsities, table = _pivot(changes, "{:.0%}".format, lambda values: percent(values, 2, "+"))
    return markdown_table(("quantizer", "codec", *sparsities), table, "llrrrr")


def already_zero(results: Results) -> str:
    """Share of the pruned weights that the grid had at 0."""
    shares = by(results.rows("already_zero"), ("quantizer", "sparsity"), "share")
    sparsities, table = _pivot(shares, "{:.0%}".format, lambda values: percent(values, 1))
    return markdown_table(("grid", *sparsities), table, "lrrrr")


def exports(results: Results) -> str:
    """Size and cost of every variant of the source's exporter."""
    rows, keys = results.rows("exports"), ("bits", "floor", "table")
    costs = by(rows, keys, "cost")
    table = []
    for (bits, floor, kind), sizes in by(rows, keys, "n_bytes").items():
        stored = "fp16" if kind == "fp16" else f"int{bits}"
        kilobytes = spread([size / 1000 for size in sizes], 1)
        cost = spread(costs[bits, floor, kind], 4, "+")
        table.append((f"int{bits}", "1 / R" if floor else "none", stored, kilobytes, cost))
    return markdown_table(("matrices", "step floor", "table", "kB", "bits per byte above fp32"), table, "lllrr")


def truncation(results: Results) -> str:
    """Variance and loss at every rank that was tried."""
    costs = by(results.rows("truncation"), ("share", "rank"), "cost")
    learned, random = (by(results.rows("spectrum"), ("rank",), name) for name in ("learned", "random"))
    table = [
        (f"{share:g}", f"{rank}", percent(learned[(rank,)], 1), percent(random[(rank,)], 1), spread(values, 4, "+"))
        for (share, rank), values in costs.items()
    ]
    header = ("share of the width", "rank", "variance, learned", "variance, random", "bits per byte lost")
    return markdown_table(header, table, "rrrrr")


def loops(results: Results) -> str:
    """Loss by number of passes."""
    losses = by(results.rows("loops"), ("model", "passes"), "bpb")
    passes, table = _pivot(losses, lambda n: f"{n} passes" if n > 1 else "1 pass", lambda values: spread(values, 3))
    return markdown_table(("blocks", *passes), table, "lrrrrrr")


def averaging(results: Results) -> str:
    """Loss that arithmetic alone adds, by number of snapshots."""
    costs = by(results.rows("averaging"), ("way", "snapshots"), "cost")
    counts, table = _pivot(costs, "{} snapshots".format, lambda values: spread(values, 4, "+"))
    return markdown_table(("accumulated as", *counts), table, "lrrrrr")


TABLES = named(trainings, codebooks, losses, pruning, already_zero, exports, truncation, loops, averaging)
