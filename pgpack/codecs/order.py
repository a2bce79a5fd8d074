"""Symbol transforms that only change the order of symbols: transpose and row sort.

They help byte codecs that look for repetition near by; the cost of a static entropy coder does not depend on order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact

from .base import SymbolLayout, Symbols, SymbolTransform
from .fixed_width import codes_of, span

Side = NDArray[Any]

CACHE_BYTES = 1 << 18  # rows compared at once: their differences stay in the second-level cache


@dataclass(frozen=True)
class Transpose(SymbolTransform):
    """Column-major order of a matrix; anything that is not 2-D is unchanged.

    Use when: columns, not rows, hold like symbols and a byte codec follows.
    """

    def forward(self, symbols: Symbols) -> tuple[Symbols, Side | None]:
        return (np.ascontiguousarray(symbols.T) if symbols.ndim == 2 else symbols), None

    def inverse(self, symbols: Symbols, side: Side | None) -> Symbols:
        if side is not None:
            raise CorruptArtifact("a transpose has no side information")
        return np.ascontiguousarray(symbols.T) if symbols.ndim == 2 else symbols

    def again(self, symbols: Symbols, side: Side | None) -> Symbols:
        return self.forward(symbols)[0]

    def plain_layout(self, symbols: SymbolLayout, side: SymbolLayout | None) -> SymbolLayout:
        if side is not None:
            raise CorruptArtifact("a transpose has no side information")
        return SymbolLayout(symbols.shape[::-1], symbols.dtype) if len(symbols.shape) == 2 else symbols


@dataclass(frozen=True)
class RowSort(SymbolTransform):
    """Rows of a matrix in greedy nearest-neighbour order: row 0, then always the L1-nearest of the rows left.

    Use when: like rows are far apart and a byte codec with a window follows; costs 2 bytes a row.

    Ties go to the lower row. Side: for each sorted row its original number, uint16, uint32 beyond 65,536 rows.
    Anything that is not a matrix of at least 2 rows is unchanged, without side information.
    *Source* the row order of openai/parameter-golf PR #1855.
    """

    def forward(self, symbols: Symbols) -> tuple[Symbols, Side | None]:
        if symbols.ndim != 2 or len(symbols) < 2:
            return symbols, None
        order = nearest_order(symbols)
        return symbols[order], order.astype("<u2" if len(order) <= 1 << 16 else "<u4")

    def inverse(self, symbols: Symbols, side: Side | None) -> Symbols:
        if symbols.ndim != 2 or len(symbols) < 2:
            if side is not None:
                raise CorruptArtifact("a row sort of fewer than 2 rows has no side information")
            return symbols
        n = len(symbols)
        if side is None or side.shape != (n,) or side.dtype.kind != "u":
            raise CorruptArtifact(f"a row sort of {n} rows needs {n} unsigned row numbers")
        if int(side.max()) >= n or (np.bincount(side.astype(np.intp), minlength=n) != 1).any():
            raise CorruptArtifact(f"the row numbers of a row sort are no permutation of {n} rows")
        plain = np.empty_like(symbols)
        plain[side] = symbols
        return plain

    def again(self, symbols: Symbols, side: Side | None) -> Symbols:
        return symbols if side is None else symbols[side]

    def plain_layout(self, symbols: SymbolLayout, side: SymbolLayout | None) -> SymbolLayout:
        rows = symbols.shape[0] if len(symbols.shape) == 2 else 0
        expected = SymbolLayout((rows,), "<u2" if rows <= 1 << 16 else "<u4") if rows >= 2 else None
        if side != expected:
            raise CorruptArtifact(f"a row sort of {rows} rows has other side information than {rows} row numbers")
        return symbols


def nearest_order(symbols: Symbols) -> NDArray[np.intp]:
    """Row numbers in greedy L1 nearest-neighbour order from row 0. Shape: symbols (rows, cols); (rows,).

    O(rows^2 cols / 2) on 8- or 16-bit differences where the symbols' range allows, float64 beyond.
    """
    low, width = span(symbols)
    codes: NDArray[Any] = codes_of(symbols, low).astype(
        np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.float64
    )
    rows = len(codes)
    ids = np.arange(rows)  # of the rows left, ascending, so that argmin breaks ties as documented
    order = np.zeros(rows, np.intp)
    used = np.zeros(rows, bool)
    at = 0
    for i in range(1, rows):
        used[at] = True
        distances = l1_distances(codes, codes[at])
        distances[used] = np.inf
        if i % 64 == 0:  # drop used rows now and then: copying costs as much as comparing
            left = ~used
            distances, ids, codes, used = distances[left], ids[left], codes[left], used[left]
        at = int(distances.argmin())
        order[i] = ids[at]
    return order


def l1_distances(codes: NDArray[Any], row: NDArray[Any]) -> NDArray[np.float64]:
    """Sum over columns of |codes - row|. Shape: codes (n, cols), row (cols,); (n,)."""
    n, cols = codes.shape
    distances = np.empty(n)
    step = max(1, CACHE_BYTES // max(1, cols * codes.itemsize))
    for start in range(0, n, step):
        part = codes[start : start + step]
        gap = np.maximum(part, row)
        gap -= np.minimum(part, row)
        distances[start : start + step] = gap.sum(axis=1, dtype=None if gap.dtype.kind == "f" else np.uint32)
    return distances
