"""Decoding of `rans_wide`: lanes and trellis states of a band, a row at a time. numpy only.

As in `scaled_decoder` arrays are made once and written in place, and constants are arrays; but a step spans the
columns of several matrices, so that numpy's price of a call is paid for thousands of symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact

from .lanes import LOWEST, refill_
from .scaled_tables import Table
from .wide_bands import Band, Piece
from .wide_split import Ints, Large

Index = NDArray[np.intp]

COLUMNS = 1 << 16  # of a row that are looked up together, a whole number of steps


@dataclass(frozen=True, eq=False)
class Lookup:
    """Where the tables of a matrix begin, and what of its symbols' lowest bits is known before.

    Shape: bases (n, cols) uint16, first tables of a row of each of n levels; levels (rows,), which of them a row
    has; starts (pieces, cols), states of the trellis; tails as `large` says.
    """

    bases: NDArray[np.uint16]
    levels: Index
    starts: NDArray[np.uint8]
    large: Large | None
    tails: Ints


class Decoder:
    """The lanes of one stream, band after band."""

    def __init__(
        self, data: memoryview, tables: Sequence[Table | None], precision: int, lanes: int, trellis: NDArray[np.uint8]
    ) -> None:
        self.precision = precision
        n_words, odd = divmod(len(data) - 4 * lanes, 2)
        if n_words < 0 or odd or (not lanes and data):
            raise CorruptArtifact(f"a wide rANS stream has {len(data)} bytes for {lanes} lanes and their words")
        self.states = np.frombuffer(data, "<u4", lanes).astype(np.uint32)
        self.words = np.frombuffer(data, "<u2", n_words, 4 * lanes).astype(np.uint16, copy=False)
        if (self.states < LOWEST).any():
            raise CorruptArtifact("a rANS lane has a state below 2^16")
        self.read = 0
        slots = 1 << precision
        # frequency << 16 | slot - start; a context without a table never occurs in a sound file
        self.entry = np.full(len(tables) * slots, 1 << 16, np.uint32)
        self.code = np.zeros(len(tables) * slots, np.int16)
        for i, table in enumerate(tables):
            if table is not None:
                freqs = table.freqs
                where = slice(i * slots, (i + 1) * slots)
                self.entry[where] = np.repeat(freqs << 16, freqs)
                self.entry[where] |= (np.arange(slots) - np.repeat(np.cumsum(freqs) - freqs, freqs)).astype(np.uint32)
                self.code[where] = np.repeat(np.arange(table.low, table.low + freqs.size), freqs)
        self.following = _following(trellis, precision)
        self.trellis = len(trellis) > 1

    def band(self, band: Band, lookups: Sequence[Lookup]) -> NDArray[np.int16]:
        """Heads of a band; those below a piece are nothing. Shape: (height, width). `lookups`: of its matrices."""
        if band.width > COLUMNS:
            return self._wide(band, lookups[0])
        heads = np.zeros((band.height, band.width), np.int16)
        places = [_Place(piece, lookups[piece.matrix - band.matrices.start], self.precision) for piece in band.pieces]
        state = np.concatenate([_held(place.start, self.precision) for place in places])
        index, offset, slots = np.empty_like(state), state & 1 << self.precision, np.empty_like(state)
        one, superset = np.ones_like(state), np.full_like(state, 1 << self.precision)
        begin, stop = 0, band.height
        for reaching in range(len(places), 0, -1):  # of the pieces, which end one after another
            stop = places[reaching - 1].piece.rows
            if stop == begin:
                continue
            here, cols = places[:reaching], places[reaching - 1].piece.columns.stop
            steps = self._steps(cols)
            large = [place for place in here if place.large_rows]
            i, s, o, u, b = index[:cols], state[:cols], offset[:cols], one[:cols], superset[:cols]
            for row in range(begin, stop):
                found = heads[row]
                for place in here:
                    base = place.bases[place.levels[row]]
                    np.add(base, offset[place.columns], out=slots[place.columns])
                for step in steps:
                    self.read = step.take(slots, found, self.read)
                if not self.trellis:
                    continue
                np.bitwise_and(found[:cols], u, out=i)
                for place in large:
                    place.correct_(row, index)
                np.bitwise_or(i, s, out=i)
                self.following.take(i, out=s, mode="clip")
                np.bitwise_and(s, b, out=o)
            begin = stop
        return heads

    def _wide(self, band: Band, lookup: Lookup) -> NDArray[np.int16]:
        """Heads of a band of one matrix, which is not cut, some of its columns at a time: of a row of millions, what
        is held for each counts. Shape: (height, width)."""
        heads = np.zeros((band.height, band.width), np.int16)
        place = _Place(band.pieces[0], lookup, self.precision)
        blocks = [slice(at, min(at + COLUMNS, band.width)) for at in range(0, band.width, COLUMNS)]
        steps = {n: self._steps(n) for n in {block.stop - block.start for block in blocks}}
        one, superset = np.ones(1, np.intp), np.full(1, 1 << self.precision)
        state = _held(place.start, self.precision) if self.trellis else np.zeros(0, np.intp)
        index = np.empty_like(state)
        for row in range(band.height):
            found = heads[row]
            for block in blocks:
                slots = lookup.bases[place.levels[row], block].astype(np.intp)
                slots <<= self.precision
                if self.trellis:
                    slots += state[block] & superset
                for step in steps[slots.size]:
                    self.read = step.take(slots, found[block], self.read)
            if self.trellis:
                np.bitwise_and(found, one, out=index)
                place.correct_(row, index)
                np.bitwise_or(index, state, out=index)
                self.following.take(index, out=state, mode="clip")
        return heads

    def _steps(self, cols: int) -> list[_Step]:
        """The steps of a row."""
        lanes = len(self.states)
        return [_Step(self, slice(at, min(at + lanes, cols))) for at in range(0, cols, lanes)]

    def finish(self) -> None:
        """Raises CorruptArtifact unless every word is read and every state is back at its start."""
        if self.read != self.words.size or (self.states != LOWEST).any():
            raise CorruptArtifact("a wide rANS stream does not end where its symbols end")


class _Place:
    """A piece in its band, with the look-ups of its own rows."""

    def __init__(self, piece: Piece, lookup: Lookup, precision: int) -> None:
        self.piece, self.columns = piece, piece.columns
        narrow = piece.cols <= COLUMNS
        self.bases = list(lookup.bases.astype(np.intp) << precision) if narrow else []
        self.levels = lookup.levels[piece.down].tolist()
        self.start = lookup.starts[piece.number]
        self.large_rows: dict[int, int] = {}
        if (large := lookup.large) is not None:
            rows = large.rows.tolist()
            self.large_rows = {
                row - piece.first: i for i, row in enumerate(rows) if 0 <= row - piece.first < piece.rows
            }
            self.large_columns = large.columns + piece.left
            self.kept = (large.shift == 0).astype(np.intp)
            self.bits = (lookup.tails & 1).astype(np.intp)

    def correct_(self, row: int, index_: Index) -> None:
        """The lowest bits of symbols, where those of heads are others. Shape: index_ (width,)."""
        at = self.large_rows.get(row)
        if at is not None:
            index_[self.large_columns] = index_[self.large_columns] & self.kept[at] | self.bits[at]


class _Step:
    """Neighbouring columns, one in each lane, with everything that a step needs in place."""

    def __init__(self, decoder: Decoder, columns: slice) -> None:
        self.columns, self.words = columns, decoder.words
        self.entry, self.code = decoder.entry, decoder.code
        self.x = decoder.states[: columns.stop - columns.start]
        self.f, self.e = np.empty_like(self.x), np.empty_like(self.x)
        # constants as arrays: numpy takes longer to convert a scalar than to read it a thousand times
        self.mask = np.full_like(self.x, (1 << decoder.precision) - 1)
        self.shift = np.full_like(self.x, decoder.precision)
        self.lowest, self.word_bits = np.full_like(self.x, LOWEST), np.full_like(self.x, 16)
        self.low_half = np.full_like(self.x, 0xFFFF)

    def take(self, slots_: Index, heads_: NDArray[np.int16], read: int) -> int:
        """Decode one row's columns; returns the words read so far. `slots_`, the first of each table, is used up."""
        x, slot = self.x, slots_[self.columns]
        np.bitwise_and(x, self.mask, out=self.f)
        np.add(slot, self.f, out=slot)
        self.entry.take(slot, out=self.e, mode="clip")
        self.code.take(slot, out=heads_[self.columns], mode="clip")
        np.right_shift(self.e, self.word_bits, out=self.f)
        np.bitwise_and(self.e, self.low_half, out=self.e)
        np.right_shift(x, self.shift, out=x)
        np.multiply(x, self.f, out=x)
        np.add(x, self.e, out=x)
        empty = np.less(x, self.lowest).nonzero()[0]
        if empty.size:
            new = self.words[read : read + empty.size]
            if new.size < empty.size:
                raise CorruptArtifact("a wide rANS stream ends before its last symbol")
            refill_(x, empty, new, self.word_bits)
        return read + empty.size


def _held(states: NDArray[np.integer], precision: int) -> Index:
    """States as they are held: the superset, bit 0, at bit `precision`, so that it is the offset of a table; bit 0
    then has room for a symbol's, and both together are the index of the next state."""
    return (states & 1).astype(np.intp) << precision | states & 0xFE


def _following(trellis: NDArray[np.uint8], precision: int) -> Index:
    now = _held(np.arange(len(trellis)), precision)
    following = np.zeros(2 << precision, np.intp)
    following[now], following[now | 1] = _held(trellis[:, 0], precision), _held(trellis[:, 1], precision)
    return following
