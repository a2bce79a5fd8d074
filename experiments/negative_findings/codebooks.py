"""Codebooks against integer grids at equal loss, under byte codecs and entropy coders (findings 24 and 12).

    int      absmax grid per row, 3 to 8 bits         kmeans   one table per matrix, 16 to 256 values
    sdclip   standard-deviation grid, four clips       vectors  one table of pairs of neighbouring weights

Each is a curve of bytes against KL; `Bjontegaard delta rate` is the mean difference of bytes where both curves reach
the same KL. The source compared two points of two curves instead: 63 values with 256.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgpack.codecs import BYTE_CODECS
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.codebook import KMeans
from pgpack.quantizers.uniform import Rtn
from pgpack.study.frontier import bd_rate

from .recipes import CODECS, MatrixBench

CURVES: dict[str, tuple[str, tuple[float, ...]]] = {
    "int": ("rtn(bits={})", (3, 4, 5, 6, 7, 8)),
    "kmeans": ("kmeans(k={})", (16, 32, 64, 128, 256)),
    "sdclip": ("sdclip(bits=8,clip={})", (18, 30, 50, 80)),
    "vectors": ("product_kmeans(dim=2,k={})", (64, 256, 1024)),
}
EVERY_CODEC = ("int", "kmeans")
Points = list[tuple[float, float]]  # bytes, KL
TOKENS = 4096  # of KL to the checkpoint
SOURCE_SHAPE = (1536, 512)  # an MLP matrix of the source


def measure(trained: Trained, seed: int) -> Found:
    """Curves of one checkpoint, and what follows from them."""
    bench = MatrixBench(trained.path("packed", seed), TOKENS)
    found = Found(seed)
    points: dict[tuple[str, str], Points] = {}
    at: dict[tuple[str, float, str], tuple[float, float]] = {}
    for curve, (template, dials) in CURVES.items():
        for dial, codec in product(dials, CODECS if curve in EVERY_CODEC else ("rans",)):
            sized = bench.sized(template.format(dial), codec)
            n_bytes, kl = sized.matrix_bytes, sized.packed.kl
            found.add(
                "codebooks", seed=seed, curve=curve, dial=dial, codec=codec, n_bytes=n_bytes,
                bits_per_weight=sized.bits_per_weight, kl=kl, mse=sized.mse,
            )  # fmt: skip
            points.setdefault((curve, codec), []).append((n_bytes, kl))
            at[curve, dial, codec] = (n_bytes, sized.mse)
    _compare_points(found, at)
    for codec in CODECS:
        percent = _percent(points["int", codec], points["kmeans", codec])
        found.values[f"codebook.equal_kl_{codec}"] = percent
        found.add("equal_kl", seed=seed, codec=codec, percent=percent)
    found.values["codebook.rans_against_int_zstd"] = _percent(points["int", "zstd"], points["kmeans", "rans"])
    found.values["int.zstd_against_rans"] = _percent(points["int", "rans"], points["int", "zstd"])
    for other in ("sdclip", "vectors"):
        found.values[f"{other}.equal_kl_rans"] = _percent(points["int", "rans"], points[other, "rans"])
    _source_shape(found, seed)
    return found


def _percent(anchor: Points, test: Points) -> float:
    """Mean difference of bytes at equal KL, in percent of the anchor's."""
    return bd_rate(anchor, test, "kl").percent


def _compare_points(found: Found, at: dict[tuple[str, float, str], tuple[float, float]]) -> None:
    """The source's own comparison, and the same one for an integer grid of as many values as its codebook."""
    int6, book = at["int", 6, "zstd"], at["kmeans", 256, "zstd"]
    for name, (n_bytes, mse) in (("codebook", book), ("int8", at["int", 8, "zstd"])):
        found.put(name, {"mse_change": mse / int6[1] - 1, "zstd_ratio": n_bytes / int6[0]})
    found.values["codebook.rans_saving"] = 1 - at["kmeans", 256, "rans"][0] / book[0]


def _source_shape(found: Found, seed: int) -> None:
    """The same two points on a matrix of the source's shape that nothing has trained."""
    weight = np.random.default_rng(seed).normal(size=SOURCE_SHAPE).astype(np.float32)
    zstd = BYTE_CODECS["zstd"](level=22)
    sizes, errors = {}, {}
    for name, quantizer in (("int6", Rtn(6)), ("book", KMeans(256))):
        tensor = quantizer.quantize(QuantizerInput("w", weight))
        sizes[name] = len(zstd.encode(tensor.symbols.tobytes()))
        errors[name] = float(np.square(tensor.dequantize() - weight).mean())
    found.values["gaussian.mse_change"] = errors["book"] / errors["int6"] - 1
    found.values["gaussian.zstd_ratio"] = sizes["book"] / sizes["int6"]
