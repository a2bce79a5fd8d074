"""How the matrices of a `rans_wide` stream stand side by side, so that one step of its lanes spans several of them.

    matrices --cut, if tall--> pieces --stood side by side, tallest first--> bands

A tall matrix is cut into pieces of about SHORTEST rows or more, as many as there is room for. A trellis walks down
the rows, and every piece but the first stores the states in which its columns begin. A band takes the pieces of
consecutive matrices until the next matrix would make it wider than there are lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LANES = 1 << 12  # at most; a lane costs about 24 bits
STEPS_PER_LANE = 1 << 14
SHORTEST = 1 << 12  # rows of a piece, where a matrix is cut at all


def n_lanes(n: int) -> int:
    """Lanes for `n` symbols: the power of two at or below n / 2^14, from 1 to 4096."""
    wanted = min(n // STEPS_PER_LANE, LANES)
    return 1 << max(0, wanted.bit_length() - 1)


@dataclass(frozen=True)
class Piece:
    """Piece `number` of matrix `matrix`: its rows [first, first + rows), columns [left, left + cols) of the band."""

    matrix: int
    number: int
    first: int
    rows: int
    left: int
    cols: int

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.cols)

    @property
    def down(self) -> slice:
        return slice(self.first, self.first + self.rows)


@dataclass(frozen=True)
class Band:
    """Pieces by falling height; `matrices`: the numbers of those that it holds, in order."""

    matrices: range
    pieces: tuple[Piece, ...]

    @property
    def height(self) -> int:
        return self.pieces[0].rows

    @property
    def width(self) -> int:
        return self.pieces[-1].left + self.pieces[-1].cols


def heights(rows: int, cols: int, lanes: int) -> list[int]:
    """Rows of the pieces of one matrix."""
    count = max(1, min(lanes // cols, rows // SHORTEST))
    height = -(-rows // count)
    return [min(height, rows - first) for first in range(0, rows, height)]


def bands(shapes: Sequence[tuple[int, int]], lanes: int) -> list[Band]:
    """The bands of matrices of these shapes, none of them empty."""
    found: list[Band] = []
    held: list[tuple[int, int, int, int, int]] = []  # (rows, matrix, number, first row, cols)
    width = begin = 0
    for number, (rows, cols) in enumerate(shapes):
        cut = heights(rows, cols, lanes)
        if held and width + len(cut) * cols > lanes:
            found.append(_band(range(begin, number), held))
            held, width, begin = [], 0, number
        held += [(height, number, i, i * cut[0], cols) for i, height in enumerate(cut)]
        width += len(cut) * cols
    if held:
        found.append(_band(range(begin, len(shapes)), held))
    return found


def _band(matrices: range, held: Sequence[tuple[int, int, int, int, int]]) -> Band:
    pieces, left = [], 0
    for rows, matrix, number, first, cols in sorted(held, key=lambda piece: -piece[0]):
        pieces.append(Piece(matrix, number, first, rows, left, cols))
        left += cols
    return Band(matrices, tuple(pieces))
