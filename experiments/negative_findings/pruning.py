"""Magnitude pruning before export (finding 23): bytes at 1, 3, 5 and 10 % under four quantizers and five codecs.

Two explanations are measured beside it: how many of the pruned weights the quantizer had rounded to 0 anyway, and how
much bytes move when equal weights are exported again after a change far below a step.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgpack.codecs import BYTE_CODECS
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.pruning import smallest
from pgpack.quantizers.uniform import Rtn

from .recipes import MatrixBench

SPARSITIES = (0.01, 0.03, 0.05, 0.10)
QUANTIZERS = {
    "int6": "rtn(bits=6)",
    "int6, step floor": "rtn_percentile(bits=6)",
    "GPTQ int6": "gptq(bits=6,clip=12.85)",
    "k-means 256": "kmeans(k=256)",
}
BLOCKS, TOKENS = "1", 4096  # one block: 100 artifacts a seed; KL
CODECS = ("zstd", "brotli", "lzma", "zlib", "rans")
RE_EXPORTS, NUDGE = 6, 1e-3  # of a row's standard deviation


def measure(trained: Trained, seed: int) -> Found:
    """Changes of bytes by quantizer, codec and sparsity on one checkpoint."""
    bench = MatrixBench(trained.path("packed", seed), TOKENS, BLOCKS)
    found = Found(seed)
    changes: dict[tuple[str, str], list[float]] = {}
    for (name, quantizer), codec in product(QUANTIZERS.items(), CODECS):
        plain = bench.sized(quantizer, codec)
        for sparsity in SPARSITIES:
            pruned = bench.sized(f"prune_magnitude(sparsity={sparsity})|{quantizer}", codec)
            change = pruned.matrix_bytes / plain.matrix_bytes - 1
            changes.setdefault((name, codec), []).append(change)
            found.add(
                "pruning", seed=seed, quantizer=name, codec=codec, sparsity=sparsity, change=change,
                kl_plain=plain.packed.kl, kl=pruned.packed.kl,
            )  # fmt: skip
    for sparsity, change in zip(SPARSITIES, changes["int6", "zstd"], strict=True):
        found.values[f"prune.int6_zstd_{100 * sparsity:.0f}"] = change
    found.values["prune.worst_rise"] = max(max(each[:3]) for each in changes.values())
    found.values["prune.worst_bump"] = max(each[1] - max(each[0], each[2]) for each in changes.values())
    _already_zero(bench, found, seed)
    found.values["prune.reexport_noise"] = _reexport_noise(bench, seed)
    return found


def _already_zero(bench: MatrixBench, found: Found, seed: int) -> None:
    """Share of the pruned weights whose symbol is 0 without pruning."""
    for (name, rule), sparsity in product((("int6", Rtn(6)), ("int8", Rtn(8))), SPARSITIES):
        pruned = zero = 0
        for matrix in bench.matrices:
            weight = bench.tensors[matrix]
            magnitudes = np.abs(weight).reshape(-1)
            mask = smallest(magnitudes, int(sparsity * magnitudes.size)).reshape(weight.shape)
            symbols = rule.quantize(QuantizerInput(matrix, weight)).symbols
            pruned, zero = pruned + int(mask.sum()), zero + int((symbols[mask] == 0).sum())
        found.add("already_zero", seed=seed, quantizer=name, sparsity=sparsity, share=zero / pruned)
        found.values[f"prune.already_zero_{name}_{100 * sparsity:.0f}"] = zero / pruned


def _reexport_noise(bench: MatrixBench, seed: int) -> float:
    """Relative standard deviation of the zstd bytes of int6 over exports of weights that were moved a little."""
    zstd, rng = BYTE_CODECS["zstd"](level=22), np.random.default_rng(seed)
    sizes = []
    for _ in range(RE_EXPORTS):
        stream = b""
        for name in bench.matrices:
            weight = bench.tensors[name]
            nudge = rng.normal(size=weight.shape).astype(np.float32) * weight.std(axis=1, keepdims=True) * NUDGE
            stream += Rtn(6).quantize(QuantizerInput(name, weight + nudge)).symbols.tobytes()
        sizes.append(len(zstd.encode(stream)))
    return float(np.std(sizes, ddof=1) / np.mean(sizes))
