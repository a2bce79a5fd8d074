"""The data tables of the README, each a function of results/ alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from experiments.replication.command import Table
from experiments.replication.measures import Measured
from experiments.replication.pages import markdown_table
from experiments.replication.results import Results
from experiments.replication.rows import Row, Value

Key = tuple[Value, ...]
CODEC_NAMES = {
    "zstd": "zstd 22",
    "brotli": "brotli 11",
    "lzma": "LZMA 9",
    "zlib": "zlib 9",
    "bits": "packed bits",
    "rans": "rANS",
}


def by(rows: Iterable[Row], keys: Sequence[str], value: str) -> dict[Key, list[float]]:
    """The values of all seeds under each combination of keys, in the order of the file."""
    found: dict[Key, list[float]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(float(row[value]))
    return found


def spread(values: Sequence[float], digits: int, sign: str = "") -> str:
    """Mean ± standard deviation over seeds."""
    return Measured(tuple(values)).shown(digits, sign)


def trainings(results: Results) -> str:
    """Every run with its loss."""
    rows = results.rows("trainings")
    losses = by(rows, ("run", "parameters"), "bpb")
    purposes = results.study.purposes
    table = [
        (str(run), f"{parameters:,}", spread(values, 4), purposes[str(run)])
        for (run, parameters), values in losses.items()
    ]
    return markdown_table(("run", "parameters", "bits per byte", "what it is for"), table, "lrrl")


def codebooks(results: Results) -> str:
    """Bits per weight of three points under each codec, and the mean difference at equal KL."""
    rows = results.rows("codebooks")
    sizes = by(rows, ("curve", "dial", "codec"), "bits_per_weight")
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
    errors, kls = by(rows, ("curve", "dial"), "mse"), by(rows, ("curve", "dial"), "kl")
    names = {"int": "int, bits", "kmeans": "k-means, values", "sdclip": "std grid, clip", "vectors": "pairs, values"}
    sizes = by(rows, ("curve", "dial"), "bits_per_weight")
    table = [
        (names[str(curve)], f"{dial:g}", spread(sizes[curve, dial], 3), _small(errors[curve, dial]), _small(values))
        for (curve, dial), values in kls.items()
    ]
    return markdown_table(("grid", "dial", "bits per weight, rANS", "squared error", "KL"), table, "lrrrr")


def _small(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2e}"


def pruning(results: Results) -> str:
    """Change of bytes by quantizer and codec."""
    changes = by(results.rows("pruning"), ("quantizer", "codec", "sparsity"), "change")
    sparsities = sorted({float(sparsity) for _, _, sparsity in changes})
    table = []
    for quantizer, codec in dict.fromkeys((q, c) for q, c, _ in changes):
        cells = [f"{spread([100 * v for v in changes[quantizer, codec, s]], 2, '+')} %" for s in sparsities]
        table.append((str(quantizer), CODEC_NAMES[str(codec)], *cells))
    return markdown_table(("quantizer", "codec", *(f"{s:.0%}" for s in sparsities)), table, "llrrrr")


def already_zero(results: Results) -> str:
    """Share of the pruned weights that the grid had at 0."""
    shares = by(results.rows("already_zero"), ("quantizer", "sparsity"), "share")
    sparsities = sorted({float(sparsity) for _, sparsity in shares})
    table = [
        (str(name), *(f"{spread([100 * v for v in shares[name, s]], 1)} %" for s in sparsities))
        for name in dict.fromkeys(name for name, _ in shares)
    ]
    return markdown_table(("grid", *(f"{s:.0%}" for s in sparsities)), table, "lrrrr")


def exports(results: Results) -> str:
    """Size and cost of every variant of the source's exporter."""
    rows = results.rows("exports")
    keys = ("bits", "floor", "table")
    sizes, costs = by(rows, keys, "n_bytes"), by(rows, keys, "cost")
    table = [
        (
            f"int{bits}",
            "1 / R" if floor else "none",
            "fp16" if kind == "fp16" else f"int{bits}",
            spread([n / 1000 for n in sizes[bits, floor, kind]], 1),
            spread(costs[bits, floor, kind], 4, "+"),
        )
        for bits, floor, kind in sizes
    ]
    return markdown_table(("matrices", "step floor", "table", "kB", "bits per byte above fp32"), table, "lllrr")


def truncation(results: Results) -> str:
    """Variance and loss at every rank that was tried."""
    costs = by(results.rows("truncation"), ("share", "rank"), "cost")
    spectrum = results.rows("spectrum")
    learned, random = by(spectrum, ("rank",), "learned"), by(spectrum, ("rank",), "random")
    table = [
        (
            f"{share:g}",
            f"{rank}",
            f"{spread([100 * v for v in learned[(rank,)]], 1)} %",
            f"{spread([100 * v for v in random[(rank,)]], 1)} %",
            spread(values, 4, "+"),
        )
        for (share, rank), values in costs.items()
    ]
    header = ("share of the width", "rank", "variance, learned", "variance, random", "bits per byte lost")
    return markdown_table(header, table, "rrrrr")


def loops(results: Results) -> str:
    """Loss by number of passes."""
    losses = by(results.rows("loops"), ("model", "passes"), "bpb")
    passes = sorted({int(n) for _, n in losses})
    table = [
        (str(model), *(spread(losses[model, n], 3) for n in passes))
        for model in dict.fromkeys(model for model, _ in losses)
    ]
    return markdown_table(("blocks", *(f"{n} passes" if n > 1 else "1 pass" for n in passes)), table, "lrrrrrr")


def averaging(results: Results) -> str:
    """Loss that arithmetic alone adds, by number of snapshots."""
    costs = by(results.rows("averaging"), ("way", "snapshots"), "cost")
    counts = sorted({int(n) for _, n in costs})
    table = [
        (str(way), *(spread(costs[way, n], 4, "+") for n in counts)) for way in dict.fromkeys(way for way, _ in costs)
    ]
    return markdown_table(("accumulated as", *(f"{n} snapshots" for n in counts)), table, "lrrrrr")


TABLES: Mapping[str, Table] = {
    "trainings": trainings,
    "codebooks": codebooks,
    "losses": losses,
    "pruning": pruning,
    "already_zero": already_zero,
    "exports": exports,
    "truncation": truncation,
    "loops": loops,
    "averaging": averaging,
}
