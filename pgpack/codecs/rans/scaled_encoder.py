"""The arithmetic of `rans_scaled`'s encoder, compiled by numba; decoding needs no numba (`scaled_decoder`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True, fastmath=False)
def encode_matrix(
    matrix: NDArray[Any],
    contexts: NDArray[Any],
    offsets: NDArray[np.int64],
    freqs: NDArray[np.uint32],
    starts: NDArray[np.uint32],
    precision: int,
    states_: NDArray[np.uint32],
    words_: NDArray[np.uint16],
) -> int:
    """Code one matrix, its last symbol first; where in `words_`, filled from its end, the words begin.

    Shape: matrix and contexts (rows, cols); offsets (contexts,), what added to a symbol is its place in freqs and
    starts; states_ (lanes,), which move on; words_ at least (rows * cols,).
    """
    rows, cols = matrix.shape
    lanes, end = len(states_), len(words_)
    shift, total = np.uint64(32 - precision), np.uint64(1 << precision)
    for r in range(rows - 1, -1, -1):
        for at in range((cols - 1) // lanes * lanes, -1, -lanes):
            for c in range(min(at + lanes, cols) - 1, at - 1, -1):
                place = offsets[contexts[r, c]] + np.int64(matrix[r, c])
                f, x = np.uint64(freqs[place]), np.uint64(states_[c - at])
                if x >= f << shift:
                    end -= 1
                    words_[end] = np.uint16(x & np.uint64(0xFFFF))
                    x >>= np.uint64(16)
                states_[c - at] = np.uint32(x + x // f * (total - f) + np.uint64(starts[place]))
    return end
