"""The arithmetic of the encoders of `rans_scaled` and `rans_wide`, compiled by numba; decoding needs no numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True, fastmath=False)
def encode_band(
    heads: NDArray[Any],
    contexts: NDArray[Any],
    reach: NDArray[np.int64],
    offsets: NDArray[np.int64],
    freqs: NDArray[np.uint32],
    starts: NDArray[np.uint32],
    precision: int,
    states_: NDArray[np.uint32],
    words_: NDArray[np.uint16],
) -> int:
    """Code a matrix whose columns end one after another, its last row first.

    What comes back is where in `words_`, filled from its end, the words begin.
    Shape: heads and contexts (rows, cols), of which row r has columns below reach[r]; offsets (contexts,), what added
    to a head is its place in freqs and starts; states_ (lanes,), which move on; words_ at least one per symbol.
    """
    lanes, end = len(states_), len(words_)
    shift, total = np.uint64(32 - precision), np.uint64(1 << precision)
    for r in range(len(heads) - 1, -1, -1):
        cols = reach[r]
        for at in range((cols - 1) // lanes * lanes, -1, -lanes):
            for c in range(min(at + lanes, cols) - 1, at - 1, -1):
                place = offsets[contexts[r, c]] + np.int64(heads[r, c])
                f, x = np.uint64(freqs[place]), np.uint64(states_[c - at])
                if x >= f << shift:
                    end -= 1
                    words_[end] = np.uint16(x & np.uint64(0xFFFF))
                    x >>= np.uint64(16)
                states_[c - at] = np.uint32(x + x // f * (total - f) + np.uint64(starts[place]))
    return end
