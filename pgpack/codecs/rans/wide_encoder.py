"""What `rans_wide` learns of its symbols before they are coded (`scaled_encoder`), compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True, fastmath=False)
def count_heads(
    heads: NDArray[Any], contexts: NDArray[Any], reach: int, counts_: NDArray[np.int64], beyond_: NDArray[np.int64]
) -> None:
    """Add how often each head, modulo 2 `reach`, occurs in each context, and how many there lie beyond `reach`.

    Shape: heads and contexts (rows, cols); counts_ (contexts, 2 reach); beyond_ (contexts,).
    """
    rows, cols = heads.shape
    for r in range(rows):
        for c in range(cols):
            head = np.int64(heads[r, c])
            place = (head + reach) & (2 * reach - 1)
            counts_[contexts[r, c], place] += 1
            if place != head + reach:
                beyond_[contexts[r, c]] += 1


@njit(cache=True, nogil=True, fastmath=False)
def places_beyond(heads: NDArray[Any], contexts: NDArray[Any], reach: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where heads lie beyond the reach of their context, row by row. Shape: reach (contexts,)."""
    rows, cols = heads.shape
    found, n = np.empty(1024, np.int64), 0
    for r in range(rows):
        for c in range(cols):
            own = reach[contexts[r, c]]
            head = np.int64(heads[r, c])
            if head < -own or head >= own:
                if n == len(found):
                    found = np.concatenate((found, found))
                found[n] = r * cols + c
                n += 1
    return found[:n].copy()


@njit(cache=True, nogil=True, fastmath=False)
def mean_magnitudes(
    matrix: NDArray[Any],
    bits: NDArray[np.uint8],
    row_weights: NDArray[np.float64],
    column_weights: NDArray[np.float64],
    across_: NDArray[np.float64],
    down_: NDArray[np.float64],
) -> None:
    """Weighted sums of |symbol + bit / 2| over rows into `across_` and over columns into `down_`.

    Shape: matrix and bits (rows, cols); column_weights and across_ (cols,), row_weights and down_ (rows,).
    """
    across_[:] = 0
    for r in range(len(matrix)):
        down_[r] = 0
        for c in range(matrix.shape[1]):
            size = abs(np.float64(matrix[r, c]) + 0.5 * bits[r, c])
            across_[c] += size * row_weights[r]
            down_[r] += size * column_weights[c]
