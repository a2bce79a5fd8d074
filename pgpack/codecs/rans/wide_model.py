"""What `rans_wide` fits to its arrays, and the bytes that follow from it.

arrays --levels of columns and rows--> classes --split--> heads --counts--> tables --lanes--> words
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.base import Symbols
from pgpack.tensors.trellis import states_at, supersets

from .lanes import LOWEST
from .models import varint, zigzag
from .scaled_tables import PRECISION, Table, fitted_table, joined_tables, matrix_shape, write_tables
from .wide_bands import Band, bands, heights, n_lanes
from .wide_side import Side
from .wide_split import (
    PER_OCTAVE,
    REACH,
    TOP,
    Ints,
    Large,
    Levels,
    fitted_reach,
    folded,
    multiples,
    split,
    table_classes,
    wrapped,
)

FLOOR = 2.0**-7  # mean magnitudes below this are one level
FEW = 1 << 10  # symbols that a class needs to have a table of its own at either end of the range
LONG = 16  # values that a row or column needs to have a level of its own
PASSES = 2


@dataclass(frozen=True, eq=False)
class WideModel:
    """All arrays of a stream that are not empty, as matrices. `classes`: those that have tables; `reach`: log2 of how
    far those of each class reach; `counts`: for each matrix (places, how often) of every pair of table and head,
    modulo 2 REACH, that occurs in it."""

    matrices: Sequence[Symbols]
    levels: Sequence[tuple[Levels, Levels]]
    heads: Sequence[Symbols]
    tails: Sequence[bytes]
    states: int
    classes: range
    reach: NDArray[np.uint8]
    tables: Sequence[Table | None]
    counts: Sequence[tuple[Ints, Ints]]

    @classmethod
    def of(cls, arrays: Sequence[Symbols], states: int) -> WideModel:
        from .wide_encoder import count_heads

        matrices = [np.ascontiguousarray(a).reshape(matrix_shape(a.shape)) for a in arrays if a.size]
        matrices = [m.astype(m.dtype.newbyteorder("="), copy=False) for m in matrices]
        levels = [_levels(matrix, _bits(matrix, states)) for matrix in matrices]
        parts = [split(matrix, Large.of(*own)) for matrix, own in zip(matrices, levels, strict=True)]
        heads, tails = [head for head, _ in parts], [tail for _, tail in parts]
        classes = _class_range(levels)
        model = cls(matrices, levels, heads, tails, states, classes, np.zeros(0, np.uint8), (), ())
        total = np.zeros((len(classes) * model.width, 2 * REACH), np.int64)
        beyond, counts = np.zeros(len(total), np.int64), []
        for m, head in enumerate(heads):
            own = np.zeros_like(total)
            count_heads(head, model.contexts(m), REACH, own, beyond)
            total += own
            found = np.flatnonzero(own)
            counts.append((found, own.reshape(-1)[found]))
        per_class = total.reshape(len(classes), model.width, -1).sum(axis=1)
        reach = fitted_reach(per_class, beyond.reshape(len(classes), -1).sum(axis=1))
        counted = folded(total, np.repeat(reach, model.width))
        tables = [fitted_table(row, -REACH, PRECISION) for row in counted]
        return replace(model, reach=reach, tables=tables, counts=counts)

    @property
    def width(self) -> int:
        """Tables of a class."""
        return 2 if self.states > 1 else 1

    @cached_property
    def reach_of_tables(self) -> Ints:
        return np.repeat(self.reach, self.width).astype(np.int64)

    def contexts(self, m: int) -> NDArray[np.uint8]:
        """The table of every symbol of a matrix. Shape: (rows, cols).

        Worked out anew whenever it is needed: a byte per symbol of everything at once would be too much.
        """
        columns, rows = self.levels[m]
        contexts = _bits(self.matrices[m], self.states).astype(np.uint8, copy=False)
        levels, which = np.unique(rows, return_inverse=True)
        classes = table_classes(levels.astype(np.int16)[:, None] + columns) - self.classes.start
        of_level = (np.clip(classes, 0, len(self.classes) - 1) * self.width).astype(np.uint8)
        for row, level in zip(contexts, which.reshape(-1).tolist(), strict=True):
            row += of_level[level]
        return contexts

    def spread_costs(self, arrays: Sequence[Symbols]) -> list[float]:
        """Bits of each array of `arrays`, the empty ones included, under the tables."""
        bits, heads = np.zeros((len(self.tables), 2 * REACH)), np.arange(-REACH, REACH)
        for row, table, reach in zip(bits, self.tables, self.reach_of_tables.tolist(), strict=True):
            if table is not None:
                own = PRECISION - np.log2(np.maximum(table.freqs, 1))
                row[:] = own[np.clip(wrapped(heads, reach) - table.low, 0, own.size - 1)]
        flat = bits.reshape(-1)
        counted = zip(self.tails, self.counts, strict=True)
        costs = (float(often @ flat[places]) + 8 * len(tails) for tails, (places, often) in counted)
        return [next(costs) if array.size else 0.0 for array in arrays]

    def encoded(self) -> bytes:
        lanes, words, escapes = self._coded()
        side = Side.of(self.matrices, self.levels, self._starts(), escapes).write()
        tails = b"".join(self.tails)
        described = varint(PRECISION) + varint(len(self.classes)) + varint(zigzag(self.classes.start))
        described += write_tables(self.tables)
        head = [side, varint(len(tails)), tails, varint(len(described)), described, self.reach.tobytes()]
        return b"".join([*head, lanes, *words])

    def _starts(self) -> list[NDArray[np.uint8]]:
        """The states in which the columns of each piece begin. Shape: (pieces, cols) of each matrix, or (1, cols)
        without a trellis."""
        found, lanes = [], n_lanes(sum(matrix.size for matrix in self.matrices))
        for matrix in self.matrices:
            cut = heights(matrix.shape[0], matrix.shape[1], lanes) if self.states > 1 else []
            states = np.zeros((max(1, len(cut)), matrix.shape[1]), np.uint8)
            if len(cut) > 1:
                bits = _bits(matrix, self.states)
                for i in range(1, len(cut)):
                    states[i] = states_at(matrix, bits, i * cut[0], self.states)
            found.append(states)
        return found

    def _coded(self) -> tuple[bytes, list[bytes], list[tuple[Ints, Ints]]]:
        """(lane states, words in decoding order, escapes of every matrix)."""
        from .scaled_encoder import encode_band

        if not self.matrices:
            return b"", [], []
        tables = joined_tables(self.tables)
        states = np.full(n_lanes(sum(matrix.size for matrix in self.matrices)), LOWEST, np.uint32)
        parts: list[bytes] = []
        escapes: list[tuple[Ints, Ints]] = []
        for band in reversed(bands([matrix.shape for matrix in self.matrices], len(states))):
            heads, contexts, reach, own = self._band(band)
            escapes = own + escapes
            words = np.empty(int(reach.sum()), np.uint16)  # a symbol emits at most one, because precision <= 16
            begin = encode_band(heads, contexts, reach, *tables, PRECISION, states, words)
            parts.append(words[begin:].astype("<u2").tobytes())
        return states.astype("<u4").tobytes(), parts[::-1], escapes

    def _band(self, band: Band) -> tuple[NDArray[np.int16], NDArray[np.uint8], Ints, list[tuple[Ints, Ints]]]:
        """(heads, contexts, columns of every row, escapes of every matrix) of a band. Shape: (height, width) twice,
        (height,)."""
        from .wide_encoder import places_beyond

        heads = np.zeros((band.height, band.width), np.int16)
        contexts = np.zeros(heads.shape, np.uint8)
        reach, escapes = np.zeros(band.height, np.int64), []
        for m in band.matrices:
            own, table = self.heads[m], self.contexts(m)
            places = places_beyond(own, table, np.int64(1) << self.reach_of_tables)
            bits = self.reach_of_tables[table.reshape(-1)[places]]
            far = own.reshape(-1)[places].astype(np.int64)
            escapes.append((places, multiples(far, bits)))
            own = own.astype(np.int16)
            own.reshape(-1)[places] = wrapped(far, bits)
            for piece in band.pieces:
                if piece.matrix == m:
                    heads[: piece.rows, piece.columns] = own[piece.down]
                    contexts[: piece.rows, piece.columns] = table[piece.down]
                    reach[: piece.rows] += piece.cols
        return heads, contexts, reach, escapes


def _bits(matrix: Symbols, states: int) -> NDArray[np.uint8]:
    return supersets(matrix, states) if states > 1 else np.zeros(matrix.shape, np.uint8)


def _levels(matrix: Symbols, bits: NDArray[np.uint8]) -> tuple[Levels, Levels]:
    """Levels of columns and rows from the mean magnitudes, each relative to the other. Shape: (cols,), (rows,)."""
    from .wide_encoder import mean_magnitudes

    n_rows, n_cols = matrix.shape
    columns, rows = np.zeros(n_cols, np.int8), np.zeros(n_rows, np.int8)
    for _ in range(PASSES):
        across, down = np.zeros(n_cols), np.zeros(n_rows)
        mean_magnitudes(matrix, bits, np.exp2(rows / -PER_OCTAVE), np.ones(n_cols), across, down)
        columns = _rounded(across / n_rows, n_rows)
        mean_magnitudes(matrix, bits, np.ones(n_rows), np.exp2(columns / -PER_OCTAVE), across, down)
        rows = _rounded(down / n_cols, n_cols)
    return columns, rows


def _rounded(means: NDArray[np.float64], n: int) -> Levels:
    """Levels of means of `n` values, alike where these are few."""
    if n < LONG:
        means = np.full_like(means, means.mean())
    octaves = np.rint(PER_OCTAVE * np.log2(np.maximum(means, FLOOR)))
    levels: Levels = np.clip(octaves, -120, 120).astype(np.int8)
    return levels


def _class_range(levels: Sequence[tuple[Levels, Levels]]) -> range:
    """The classes that have tables; thin ones at the ends join their neighbours."""
    counts = np.zeros(511, np.int64)  # of the sums of a row level and a column level, from -256 on
    for across, down in levels:
        n_columns, n_rows = (np.bincount(each.astype(np.int64) + 128, minlength=256) for each in (across, down))
        counts += np.convolve(n_columns, n_rows)
    of_heads = table_classes(np.arange(-256, 255, dtype=np.int16))
    totals = np.bincount(of_heads.astype(np.int64) + 256, counts, 256 + TOP + 1)
    if not totals.any():
        return range(1)
    few = min(FEW, int(totals.sum()))
    first = int(np.searchsorted(np.cumsum(totals), few))
    last = len(totals) - 1 - int(np.searchsorted(np.cumsum(totals[::-1]), few))
    return range(first - 256, max(first, last) - 255)
