"""What the coder charges for weights, as a smooth function of them.

    levels n of all matrices --the coder's own classes--> how often each n occurs in each class --> -log2 share
    x = w / step between integers --cubic through the costs of the integers--> bits of w, with a slope

Classes are sums of a row level and a column level, as `rans_scaled` has them. The coder has a table for each parity
of n, which the state of the trellis tells; one density over all n is smooth where those two are not, and costs the
bits of the parity too much, which are taken off as a sum. So the rate of the levels themselves is the coder's ideal
length, and moving a weight changes it by the slope.

*Source* the soft histogram of #1805 of openai/parameter-golf (six-bit symbols, one table); entropy-penalised
reparameterisation: Oktay et al., arXiv:1906.06624. We differ: the steps, the classes and the symbols are those of the
packer that will be used. The cubic is Catmull and Rom's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.rans.coder import Rans
from pgpack.codecs.rans.lanes import n_lanes
from pgpack.codecs.rans.scaled import FEW, FLOOR, PER_OCTAVE
from pgpack.codecs.rans.scaled_tables import PRECISION, fitted_table, write_tables

Levels = NDArray[np.int16]
Float32 = NDArray[np.float32]
LANE = 4  # bytes of a lane's state


@dataclass(frozen=True, eq=False)
class Rate:
    """The costs of levels under tables that were fitted to some.

    `bits`: of each matrix as it was; `side`: bytes of the scales of rows and columns, of the tables and of the
    coder's lanes; `costs`: bits of every integer from -reach to reach in every class, flat; `places`: where 0 stands
    there in each weight's class; `parity`: bits of the parities, of each matrix. Shape: places[name] (rows, cols).
    """

    bits: Mapping[str, float]
    side: int
    costs: NDArray[np.float64]
    reach: int
    places: Mapping[str, NDArray[np.int64]]
    parity: Mapping[str, float]

    @property
    def n_bytes(self) -> float:
        return sum(self.bits.values()) / 8 + self.side

    def bits_of(self, name: str, x: NDArray[np.floating]) -> float:
        """Bits of a matrix at levels `x` that need not be whole, with the tables as they are."""
        p, t = self._around(name, x)
        a, b, c = _cubic(p)
        return float((p[1] + t * (a + t * (b + t * c))).sum()) - self.parity[name]

    def slope(self, name: str, x: NDArray[np.floating]) -> Float32:
        """The derivative of `bits_of` by each level. Shape: as `x`."""
        p, t = self._around(name, x)
        a, b, c = _cubic(p)
        found: Float32 = (a + t * (2 * b + 3 * t * c)).astype(np.float32)
        return found

    def _around(self, name: str, x: NDArray[np.floating]) -> tuple[list[NDArray[np.float64]], NDArray[np.floating]]:
        """Costs of the integers from one below floor(x) to two above, and x - floor(x)."""
        below = np.clip(np.floor(x), 2 - self.reach, self.reach - 2)
        at = self.places[name] + below.astype(np.int64)
        return [self.costs[at + k] for k in (-1, 0, 1, 2)], np.clip(x - below, 0, 1)


def _cubic(p: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], ...]:
    """Coefficients of t, t^2 and t^3 between the second and the third of four values in a row."""
    return (p[2] - p[0]) / 2, p[0] - 2.5 * p[1] + 2 * p[2] - p[3] / 2, 1.5 * (p[1] - p[2]) + (p[3] - p[0]) / 2


def rate_of(levels: Mapping[str, Levels]) -> Rate:
    """The rate of matrices whose trellis levels these are, under tables of their own. Shape: levels (rows, cols)."""
    scales = {name: _scales(n) for name, n in levels.items()}
    lowest, highest = _range(list(scales.values()))
    reach = max(int(np.abs(n).max(initial=0)) for n in levels.values()) + 3
    reach += reach % 2  # even, so that the parity of a place is that of its integer
    width = 2 * reach + 1
    places = {
        name: (np.clip(rows[:, None] + columns, lowest, highest) - lowest) * width + reach
        for name, (rows, columns) in scales.items()
    }
    size = (highest - lowest + 1) * width
    own = {name: np.bincount((places[name] + n).reshape(-1), minlength=size) for name, n in levels.items()}
    table = sum(own.values(), np.zeros(size, np.int64)).reshape(-1, width)
    costs = _costs(table, table.sum(axis=1, keepdims=True))
    parity = np.zeros_like(costs)
    for b in (0, 1):
        part = table[:, b::2].sum(axis=1, keepdims=True)
        parity[:, b::2] = _costs(part, table.sum(axis=1, keepdims=True))
    taken = {name: float(count @ parity.reshape(-1)) for name, count in own.items()}
    bits = {name: float(count @ costs.reshape(-1)) - taken[name] for name, count in own.items()}
    side = _side(scales, table) + LANE * n_lanes(sum(n.size for n in levels.values()))
    return Rate(bits, side, costs.reshape(-1), reach, places, taken)


def _side(scales: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]], table: NDArray[np.int64]) -> int:
    """Bytes that the coder needs for the scales and for the tables, one a class and parity."""
    told = [part.astype(np.int8) for rows, columns in scales.values() for part in (columns, rows)]
    tables = [fitted_table(row[b::2], 0, PRECISION) for row in table for b in (0, 1)]
    return len(Rans().encode(told)) + len(write_tables(tables))


def _costs(counts: NDArray[np.int64], totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of what occurs so often of so many; what never occurs counts as half a time."""
    costs: NDArray[np.float64] = np.log2(np.maximum(totals, 1)) - np.log2(np.maximum(counts, 0.5))
    return costs


def _scales(n: Levels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Levels of the rows, relative to their columns, and of the columns. Shape: (rows,), (cols,)."""
    magnitude = np.abs(n.astype(np.float32)) / 2
    columns = _octaves(magnitude.mean(axis=0, dtype=np.float64))
    magnitude /= np.exp2(columns / PER_OCTAVE).astype(np.float32)
    return _octaves(magnitude.mean(axis=1, dtype=np.float64)), columns


def _octaves(means: NDArray[np.float64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.rint(PER_OCTAVE * np.log2(np.maximum(means, FLOOR))).astype(np.int64)
    return found


def _range(scales: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> tuple[int, int]:
    """The lowest and the highest class that have tables; thin ones at the ends join their neighbours."""
    counts = np.zeros(511, np.int64)
    for rows, columns in scales:
        counts += np.convolve(np.bincount(rows + 128, minlength=256), np.bincount(columns + 128, minlength=256))
    few = min(FEW, int(counts.sum()))
    first = int(np.searchsorted(np.cumsum(counts), few))
    last = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), few))
    return first - 256, max(first, last) - 256


def entropy(symbols: NDArray[np.integer]) -> float:
    """Bits of symbols under a table of their own."""
    counts = np.unique(symbols, return_counts=True)[1]
    if not counts.size:
        return 0.0
    return float(counts @ _costs(counts, counts.sum()))
