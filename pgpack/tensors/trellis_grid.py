"""The grid of trellis-coded weights: one step, factors of rows and columns, a superset per weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import FormatError

from .base import Grid, Symbols
from .trellis import supersets


def octaves(exponents: NDArray[np.integer[Any]], per_octave: int) -> NDArray[np.float32]:
    """2^(e / per_octave) for per_octave in 1, 2, 4, 8: the same bits on every machine.

    The fractional powers are literal constants (repeated square roots of 2, correctly rounded), the rest is exact.
    """
    whole, part = np.divmod(exponents.astype(np.int64), per_octave)
    fractions = np.array(_EIGHTHS[:: 8 // per_octave], dtype=np.float32)
    values: NDArray[np.float32] = np.ldexp(fractions[part], whole.astype(np.int32))
    return values


_EIGHTHS = (
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    1.4142135623730951,
    1.5422108254079407,
    1.681792830507429,
    1.8340080864093424,
)


@dataclass(frozen=True, eq=False)
class TrellisGrid(Grid):
    """value = step * row factor * column factor * (2 symbol + b), b from the column's trellis
    (`pgpack.tensors.trellis`).

    Factors are powers of two to eighths: 2^(exponent / 8). Shape: columns (cols,), rows and trims (rows,) int8, each
    may be empty for all zeros; a row's exponent is rows + trims. Symbols (rows, cols) signed stand in the order that
    the trellis visits the rows, which is `path`. Units: `step` is a float32 value, stored exactly.
    """

    columns: NDArray[Any]
    rows: NDArray[Any]
    trims: NDArray[Any]
    step: float
    states: int
    kind: ClassVar[str] = "trellis"

    @property
    def path(self) -> NDArray[np.intp] | slice:
        """Rows of the tensor as the trellis visits them: by `rows` from fine to coarse, equal ones in their order.

        A row far coarser than its weights needs zeros, which a trellis only has in a run: coarse rows come together.
        """
        return walked_rows(self.rows)

    def levels(self, symbols: Symbols) -> NDArray[np.float32]:
        """2 symbol + b of every weight, in the order of the tensor's rows. Shape: (rows, cols)."""
        walked = symbols.astype(np.float32)
        walked *= 2
        walked += supersets(symbols, self.states)
        if not self.rows.size:
            return walked
        levels = np.empty_like(walked)
        levels[self.path] = walked
        return levels

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        n_rows, n_columns = symbols.shape if symbols.ndim == 2 else (-1, -1)
        fits = self.columns.size in (0, n_columns) and {self.rows.size, self.trims.size} <= {0, n_rows}
        if symbols.ndim != 2 or not fits:
            raise FormatError(
                f"trellis factors {self.columns.size}, {self.rows.size}, {self.trims.size} do not fit {symbols.shape}"
            )
        values: NDArray[Any] = self.levels(symbols)
        values *= np.float32(self.step)
        if self.columns.size:
            values *= octaves(self.columns, 8)
        if self.rows.size or self.trims.size:
            values *= octaves(self.row_exponents(n_rows), 8)[:, None]
        return values

    def row_exponents(self, n_rows: int) -> NDArray[np.int16]:
        """rows + trims. Shape: (n_rows,)."""
        exponents = np.zeros(n_rows, np.int16)
        for part in (self.rows, self.trims):
            if part.size:
                exponents += part
        return exponents


def walked_rows(rows: NDArray[np.integer[Any]]) -> NDArray[np.intp] | slice:
    """The order in which a trellis visits rows of these exponents; all rows in their order where there are none."""
    return np.argsort(rows, kind="stable") if rows.size else slice(None)
