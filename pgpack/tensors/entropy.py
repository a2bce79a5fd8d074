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
    return 8 * order0_bytes(part.symbols) if isinstance(part.grid, RawValues) else entropy_bits(part.symbols)


def order0_bytes(array: NDArray[Any]) -> float:
    """Order-0 entropy of the bytes of an array, place by place of its values. Units: bytes."""
    places = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8)
    return sum(entropy_bits(places[:, i]) for i in range(places.shape[1])) / 8


def entropy_bits(symbols: NDArray[Any]) -> float:
    """n * H of the empirical distribution of `symbols`. Units: bits."""
    if not symbols.size:
        return 0.0
    if symbols.dtype == np.uint8:
        counts = np.bincount(symbols.reshape(-1), minlength=256)
        counts = counts[counts > 0].astype(np.float64)
    else:
        counts = np.unique(symbols, return_counts=True)[1].astype(np.float64)
    return float(symbols.size * np.log2(symbols.size) - (counts * np.log2(counts)).sum())
