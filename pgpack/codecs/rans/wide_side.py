"""What a `rans_wide` stream says beside its heads and tails: levels, states in which pieces begin, escapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.base import SymbolLayout, Symbols
from pgpack.errors import CorruptArtifact

from .coder import Rans
from .models import Cursor, varint
from .scaled_tables import take_section
from .wide_bands import heights
from .wide_split import Ints, Levels

States = NDArray[np.uint8]

# Rows and columns are scaled so that a head is 1 in the mean, of what its class says. Beyond a reach of 256 it is
# more than 16 / 2^(1/4) times that, as no more than one in 13 can be. An escape takes 100 bytes while it is read.
MOST_ESCAPES, FREE_ESCAPES = 12, 1 << 16


@dataclass(frozen=True, eq=False)
class Side:
    """Of all matrices. Shape: columns[m] (cols,), rows[m] (rows,), starts[m] (pieces, cols); places and multiples
    (escapes,), rising places counted through all matrices."""

    shapes: Sequence[tuple[int, int]]
    columns: Sequence[Levels]
    rows: Sequence[Levels]
    starts: Sequence[States]
    places: Ints
    multiples: Ints

    @classmethod
    def of(
        cls,
        matrices: Sequence[Symbols],
        levels: Sequence[tuple[Levels, Levels]],
        starts: Sequence[States],
        escapes: Sequence[tuple[Ints, Ints]],
    ) -> Side:
        """`escapes`: (places, multiples) of every matrix."""
        begins = np.cumsum([0, *(matrix.size for matrix in matrices)]).tolist()
        none = [np.zeros(0, np.int64)]
        places = np.concatenate(none + [own + at for (own, _), at in zip(escapes, begins, strict=False)])
        multiples = np.concatenate(none + [own for _, own in escapes])
        shapes = [(matrix.shape[0], matrix.shape[1]) for matrix in matrices]
        return cls(shapes, [c for c, _ in levels], [r for _, r in levels], starts, places, multiples)

    def escapes(self, m: int) -> tuple[Ints, Ints]:
        """(places, multiples) of one matrix."""
        begin, stop = self._begins[m : m + 2]
        within = slice(*np.searchsorted(self.places, (begin, stop)).tolist())
        return self.places[within] - begin, self.multiples[within]

    @cached_property
    def _begins(self) -> list[int]:
        """Symbols before each matrix, and of all."""
        return list(accumulate((rows * cols for rows, cols in self.shapes), initial=0))

    def write(self) -> bytes:
        arrays: list[NDArray[np.generic]] = []
        for columns, rows, starts in zip(self.columns, self.rows, self.starts, strict=True):
            arrays += [columns, rows, starts[1:]]
        arrays += [np.diff(self.places, prepend=-1) - 1, self.multiples]
        coded = Rans().encode(arrays)
        return varint(self.places.size) + varint(len(coded)) + coded

    @classmethod
    def read(
        cls, data: memoryview, cursor: Cursor, shapes: Sequence[tuple[int, int]], lanes: int, trellis: bool
    ) -> Side:
        """What `write` wrote; `cursor` moves on. Raises CorruptArtifact."""
        total = sum(rows * cols for rows, cols in shapes)
        n_escapes = cursor.varint()
        if n_escapes > min(total, total // MOST_ESCAPES + FREE_ESCAPES):
            raise CorruptArtifact(f"{n_escapes} escapes among {total} symbols")
        layouts = []
        for rows, cols in shapes:
            begun = (len(heights(rows, cols, lanes)) - 1) * trellis
            layouts += [
                SymbolLayout((cols,), "|i1"),
                SymbolLayout((rows,), "|i1"),
                SymbolLayout((begun, cols), "|u1"),
            ]
        layouts += [SymbolLayout((n_escapes,), "<i8")] * 2
        *levels, gaps, multiples = Rans().decode(take_section(data, cursor), layouts)
        if gaps.size and not 0 <= int(gaps.min()) <= int(gaps.max()) < total:
            raise CorruptArtifact("escapes of a wide rANS stream are out of order")
        places = np.cumsum(gaps + 1) - 1
        if places.size and int(places[-1]) >= total:
            raise CorruptArtifact("an escape of a wide rANS stream belongs to no symbol")
        starts = [
            _from_zero(s, len(heights(*shape, lanes)), shape[1])
            for s, shape in zip(levels[2::3], shapes, strict=True)
        ]
        return cls(shapes, levels[::3], levels[1::3], starts, places, multiples)


def _from_zero(begun: States, pieces: int, cols: int) -> States:
    """The states of all pieces: the first begins in 0, and all of them where there is no trellis."""
    states = np.zeros((pieces, cols), np.uint8)
    if begun.size:
        states[1:] = begun
    return states
