"""EntQuant, the strongest data-free packer that is published, at its ideal size.

    scale s of each row: least |W - s Q|_1 / |W|_1 + lambda mean |Q|, Q = round(W / s)     over the whole matrix
    size: entropy of the symbols of each matrix + 2 bytes a row

*Source* arXiv:2601.22787. Where we differ: log2 s is searched row by row on a grid of eighths of an octave, where
they run L-BFGS, so that the optimum is met; embedding and head are quantized too; no file is written, so its coder is
taken to reach the entropy, and nothing is counted for headers and tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PER_OCTAVE = 8
LEVELS = (0.5, 128.0)  # of the largest weight of a row: from almost nothing to int8


@dataclass(frozen=True)
class Coded:
    """Decoded weights and their ideal size. Units: bytes."""

    weight: NDArray[np.float32]
    n_bytes: float


def entquant(weight: NDArray[np.float32], rate_weight: float) -> Coded:
    """A matrix at a lambda (3.9, 14.5 and 58 for about 4, 3 and 2 bits in the paper). Shape: (rows, cols)."""
    rows = np.abs(weight).max(axis=1, initial=0.0)
    rows[rows == 0] = 1.0
    total, n_values = float(np.abs(weight).sum()) or 1.0, weight.size
    best = np.full(len(weight), np.inf)
    scales = np.ones(len(weight), np.float32)
    n_octaves = np.log2(LEVELS[1] / LEVELS[0])
    for step in range(int(n_octaves * PER_OCTAVE) + 1):
        scale = (rows / (LEVELS[0] * 2 ** (step / PER_OCTAVE))).astype(np.float32)
        symbols = np.rint(weight / scale[:, None])
        error = np.abs(weight - symbols * scale[:, None]).sum(axis=1) / total
        cost = error + rate_weight * np.abs(symbols).sum(axis=1) / n_values
        better = cost < best
        best[better], scales[better] = cost[better], scale[better]
    scales = scales.astype(np.float16).astype(np.float32)
    symbols = np.rint(weight / np.maximum(scales, 1e-30)[:, None])
    return Coded((symbols * scales[:, None]).astype(np.float32), entropy_bytes(symbols) + 2 * len(weight))


def entropy_bytes(symbols: NDArray[np.floating]) -> float:
    """The size of symbols that all follow one table, at its entropy. Units: bytes."""
    counts = np.unique(symbols, return_counts=True)[1].astype(np.float64)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8) if counts.size else 0.0
