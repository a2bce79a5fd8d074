"""The Viterbi search of trellis-coded quantization, compiled by numba.

One column of an input matrix is one path: its rows share a conditional Hessian weight and do not interact inside
GPTQ, so minimizing the plain squared error along the rows is optimal for the column.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

LARGEST = np.float32(16_380)  # in steps: what error feedback asks for beyond is left to later columns


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
    start: int,
) -> int:
    """Integers closest to `x` in squared error among the paths of a trellis that leave the state `start`.

    Shape: x (n,) in units of the step; branches from `predecessors`; scratch decisions_ (>= n, n_states) and
    nearest_ (>= n, 4); the result is written to path_ (n,), and the state that it ends in comes back.
    """
    n, n_states = len(x), len(branches)
    cost = np.full(n_states, np.float32(1e30))
    cost[start] = 0
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
    end = int(np.argmin(cost))
    state = end
    for i in range(n - 1, -1, -1):
        branch = branches[state, decisions_[i, state]]
        path_[i] = nearest_[i, branch[1]]
        state = branch[0]
    return end


@njit(cache=True, nogil=True, fastmath=False)
def decide_columns(
    weights_: Float32,
    V: Float32,
    steps: Float32,
    row_steps: Float32,
    shrinking: Float32,
    excess: Float32,
    branches: NDArray[np.int32],
    states_: NDArray[np.int64],
    errors_: Float32,
    levels_: NDArray[np.int16],
    decoded_: Float32,
) -> None:
    """Some columns of a block of the feedback loop, one after another: corrected, shrunk, walked, their errors noted.

    Compiled as a whole, because with few rows at a time a column is less work than calling numpy for it. Shape:
    weights_, errors_, levels_ and decoded_ (cols, rows); V (cols, cols) unit upper triangular; steps, shrinking (of
    d^2) and states_ (cols,); row_steps and excess (rows,). weights_ is overwritten by the corrected weights.
    """
    cols, rows = weights_.shape
    decisions, nearest = np.empty((rows, len(branches)), np.uint8), np.empty((rows, 4), np.int32)
    x, path = np.empty(rows, np.float32), np.empty(rows, np.float32)
    for k in range(cols):
        w = weights_[k]
        for j in range(k):
            v = V[j, k]
            if v != 0:
                for i in range(rows):
                    w[i] -= v * errors_[j, i]
        for i in range(rows):
            v = w[i] / (row_steps[i] * steps[k] * (np.float32(1) + shrinking[k] * excess[i]))
            x[i] = min(max(v, -LARGEST), LARGEST)
        states_[k] = trellis_path(x, branches, decisions, nearest, path, states_[k])
        for i in range(rows):
            levels_[k, i] = np.int16(path[i])
            decoded_[k, i] = path[i] * (row_steps[i] * steps[k])
            errors_[k, i] = w[i] - decoded_[k, i]
