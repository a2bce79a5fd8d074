"""The Shannon bound of symbols by their own counts: an estimate, never a measured size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grids import QuantizedTensor
from .raw_values import RawValues


def order0_bits(part: QuantizedTensor) -> float:
    """Order-0 entropy of all symbols of a part; of bit patterns, byte by byte.

    Units: bits, for the whole part; the cost of describing the distribution is not in it.
    """
    symbols = np.ascontiguousarray(part.symbols)
    if isinstance(part.grid, RawValues):
        planes = symbols.reshape(-1, 1).view(np.uint8)
        return sum(entropy_bits(planes[:, i]) for i in range(planes.shape[1]))
    return entropy_bits(symbols)


def entropy_bits(symbols: NDArray[Any]) -> float:
    """n * H of the empirical distribution of `symbols`. Units: bits."""
    if not symbols.size:
        return 0.0
    counts = np.unique(symbols, return_counts=True)[1].astype(np.float64)
    return float(symbols.size * np.log2(symbols.size) - (counts * np.log2(counts)).sum())
