"""Entropy-constrained trellises on Gaussian samples: how far from the rate-distortion function, with and without the
price of bits, with plain supersets and with zero in both of them.

    python -m experiments.rate_distortion.tried.gaussian_source > results/gaussian-source.md

A cell is R - 1/2 log2(s^2 / D) in bits: R the order-0 entropy given the superset, D the mean squared error. With the
price (`pgpack.quantizers.tcq.Price`) samples are shrunk by s^2 / (s^2 + NOISE) before the search; without, they are
taken as they are. "zero in both" makes the odd superset 2k - sign(k), as the dependent quantization of VVC and NNC.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pgpack.quantizers.tcq import NOISE
from pgpack.tensors.trellis import supersets, transitions

SAMPLES = 60_000
SCALES = (0.8, 1.2, 2.0, 4.0, 8.0)  # standard deviation over the step


@njit(cache=True)
def best_path(x: NDArray[np.float64], table: NDArray[np.uint8], zero_in_both: bool) -> NDArray[np.int64]:
    """Symbols k of the path nearest to `x`, by a forward search over states."""
    n, n_states = len(x), len(table)
    cost, spare = np.full(n_states, 1e30), np.empty(n_states)
    cost[0] = 0.0
    symbols, origins = np.empty((n, n_states), np.int32), np.empty((n, n_states), np.int32)
    error, nearest = np.empty((2, 2)), np.empty((2, 2), np.int64)
    for i in range(n):
        error[:] = 1e30
        for b in range(2):
            centre = int(np.rint((x[i] - b) / 2))
            for k in range(centre - 2, centre + 3):
                value = 2 * k + b
                if b and zero_in_both:
                    value = 2 * k - int(np.sign(k))
                if (x[i] - value) ** 2 < error[b, k & 1]:
                    error[b, k & 1], nearest[b, k & 1] = (x[i] - value) ** 2, k
        spare[:] = 1e30
        for s in range(n_states):
            for bit in range(2):
                to, total = table[s, bit], cost[s] + error[s & 1, bit]
                if total < spare[to]:
                    spare[to], symbols[i, to], origins[i, to] = total, nearest[s & 1, bit], s
        cost, spare = spare, cost
    found, state = np.empty(n, np.int64), np.argmin(cost)
    for i in range(n - 1, -1, -1):
        found[i] = symbols[i, state]
        state = origins[i, state]
    return found


def gap(scale: float, states: int, priced: bool, zero_in_both: bool) -> tuple[float, float]:
    """(rate, bits above the rate-distortion function)."""
    x = np.random.default_rng(0).normal(0, scale, SAMPLES)
    target = x * (scale**2 / (scale**2 + NOISE)) if priced else x
    symbols = best_path(target, transitions(states), zero_in_both)
    bits = supersets(symbols[:, None], states)[:, 0].astype(np.int64)
    values = 2 * symbols + bits if not zero_in_both else 2 * symbols - bits * np.sign(symbols)
    rate = sum(_entropy(symbols[bits == b]) * np.mean(bits == b) for b in (0, 1) if (bits == b).any())
    return rate, rate - 0.5 * np.log2(scale**2 / np.mean((x - values) ** 2))


def _entropy(symbols: NDArray[np.int64]) -> float:
    counts = np.unique(symbols, return_counts=True)[1] / len(symbols)
    return float(-(counts * np.log2(counts)).sum())


def main() -> None:
    """Print the table."""
    print("# A Gaussian source: bits above the rate-distortion function\n")
    print(
        "Written by `python -m experiments.rate_distortion.tried.gaussian_source`. Cells: rate: gap, both in bits.\n"
    )
    print("| states | supersets | price of bits | " + " | ".join(f"s = {scale:g} steps" for scale in SCALES) + " |")
    print("|---:|---|---|" + "---:|" * len(SCALES))
    for states in (1, 8, 64):
        for zero_in_both in (False, True) if states > 1 else (False,):
            for priced in (False, True):
                cells = [gap(scale, states, priced, zero_in_both) for scale in SCALES]
                name = "zero in both" if zero_in_both else "plain"
                row = " | ".join(f"{rate:.2f}: {above:.3f}" for rate, above in cells)
                print(f"| {states} | {name} | {'yes' if priced else 'no'} | {row} |")


if __name__ == "__main__":
    main()
