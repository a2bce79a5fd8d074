"""The Viterbi search of trellis-coded quantization, compiled by numba.

One column of an input matrix is one path: its rows share a conditional Hessian weight and do not interact inside
GPTQ, so minimizing the plain squared error along the rows is optimal for the column.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def predecessors(transitions: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The two branches into each state. Shape: (n_states, 2, 2): (state they leave, subset n mod 4)."""
    table = np.empty((len(transitions), 2, 2), dtype=np.int32)
    found = np.zeros(len(transitions), dtype=np.int64)
    for state in range(len(transitions)):
        for bit in (0, 1):
            to = transitions[state, bit]
            table[to, found[to]] = state, (state & 1) + 2 * bit
            found[to] += 1
    return table


@njit(cache=True, nogil=True, fastmath=False)
def trellis_path(
    x: Float32,
    branches: NDArray[np.int32],
    decisions_: NDArray[np.uint8],
    nearest_: NDArray[np.int32],
    path_: Float32,
) -> None:
    """Integers closest to `x` in squared error among the paths of a trellis that starts in state 0.

    Shape: x (n,) in units of the step; branches from `predecessors`; scratch decisions_ (>= n, n_states) and
    nearest_ (>= n, 4); the result is written to path_ (n,).
    """
    n, n_states = len(x), len(branches)
    cost = np.full(n_states, np.float32(1e30))
    cost[0] = 0
    spare = np.empty_like(cost)
    error = np.empty(4, np.float32)
    for i in range(n):
        for d in range(4):
            m = d + 4 * np.int32(np.rint((x[i] - np.float32(d)) * np.float32(0.25)))
            nearest_[i, d] = m
            error[d] = (x[i] - np.float32(m)) ** 2
        for s in range(n_states):
            first = cost[branches[s, 0, 0]] + error[branches[s, 0, 1]]
            second = cost[branches[s, 1, 0]] + error[branches[s, 1, 1]]
            decisions_[i, s] = second < first
            spare[s] = min(first, second)
        cost, spare = spare, cost
    state = np.argmin(cost)
    for i in range(n - 1, -1, -1):
        branch = branches[state, decisions_[i, state]]
        path_[i] = nearest_[i, branch[1]]
        state = branch[0]
