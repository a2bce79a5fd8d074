"""Decoding of `rans_scaled`: rANS lanes and trellis states, a row at a time. numpy only.

A step is a dozen numpy calls on a few hundred values, so that every allocation and check counts; arrays are made
once and written in place, and look-ups whose indices are in range by construction are not checked again ("clip").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptArtifact
from .rans_lanes import LOWEST, n_lanes

if TYPE_CHECKING:
    from .rans_scaled import Table

ROWS_AT_ONCE = 256  # of a matrix; bounds the 8-byte temporaries
LOWEST_STATE, WORD_BITS = np.uint32(LOWEST), np.uint32(16)


def runs(cols: int, lanes: int) -> Iterator[slice]:
    for start in range(0, cols, lanes):
        yield slice(start, min(start + lanes, cols))


class Decoder:
    """The lanes of one stream, matrix after matrix."""

    def __init__(self, data: bytes, tables: Sequence[Table | None], precision: int, n: int) -> None:
        self.lanes = n_lanes(n) if n else 0
        self.precision = precision
        n_words, odd = divmod(len(data) - 4 * self.lanes, 2)
        if n_words < 0 or odd or (not n and data):
            raise CorruptArtifact(
                f"a scaled rANS stream has {len(data)} bytes for {self.lanes} lanes and their words"
            )
        self.states = np.frombuffer(data, "<u4", self.lanes).astype(np.uint32)
        self.words = np.frombuffer(data, "<u2", n_words, 4 * self.lanes).astype(np.uint16)
        if (self.states < LOWEST).any():
            raise CorruptArtifact("a rANS lane has a state below 2^16")
        self.read = 0
        slots = 1 << self.precision
        self.freq = np.ones(len(tables) * slots, np.uint32)  # a context without a table never occurs in a sound file
        self.bias = np.zeros(len(tables) * slots, np.uint32)
        self.code = np.zeros(len(tables) * slots, np.int32)
        for i, table in enumerate(tables):
            if table is not None:
                self._place(i * slots, table)

    def _place(self, at: int, table: Table) -> None:
        freqs = table.freqs
        starts = np.cumsum(freqs) - freqs
        where = slice(at, at + (1 << self.precision))
        self.freq[where] = np.repeat(freqs, freqs)
        self.bias[where] = np.arange(1 << self.precision) - np.repeat(starts, freqs)
        self.code[where] = np.repeat(np.arange(table.low, table.low + freqs.size), freqs)

    def matrix(
        self, shape: tuple[int, int], base: NDArray[np.int16], trellis: NDArray[np.uint8] | None
    ) -> NDArray[np.int32]:
        """Symbols of one matrix. Shape: base (rows, cols), first table of each symbol."""
        rows, cols = shape
        symbols = np.empty(shape, np.int32)
        pieces = [_Run(self, run) for run in runs(cols, self.lanes)]
        walk = None if trellis is None else _Walk(trellis, cols, self.precision)
        for start in range(0, rows, ROWS_AT_ONCE):
            tables = base[start : start + ROWS_AT_ONCE].astype(np.intp) << self.precision
            for row, found in zip(tables, symbols[start : start + ROWS_AT_ONCE], strict=True):
                if walk is not None:
                    row += walk.offset
                for run in pieces:
                    self.read = run.step(row, found, self.read)
                if walk is not None:
                    walk.step(found)
        return symbols

    def finish(self) -> None:
        """Raises CorruptArtifact unless every word is read and every state is back at its start."""
        if self.read != self.words.size or (self.states != LOWEST).any():
            raise CorruptArtifact("a scaled rANS stream does not end where its symbols end")


class _Run:
    """Neighbouring columns, one in each lane, with everything that a step needs in place."""

    def __init__(self, decoder: Decoder, columns: slice) -> None:
        self.columns, self.words = columns, decoder.words
        self.freq, self.bias, self.code = decoder.freq, decoder.bias, decoder.code
        self.x = decoder.states[: columns.stop - columns.start]
        self.f, self.b = np.empty_like(self.x), np.empty_like(self.x)
        self.mask, self.shift = np.uint32((1 << decoder.precision) - 1), np.uint32(decoder.precision)

    def step(self, tables_: NDArray[np.intp], symbols_: NDArray[np.int32], read: int) -> int:
        """Decode one row's columns; returns the words read so far. Tables are in range by construction."""
        x, slot = self.x, tables_[self.columns]
        np.bitwise_and(x, self.mask, out=self.f)
        np.add(slot, self.f, out=slot)
        self.freq.take(slot, out=self.f, mode="clip")
        self.bias.take(slot, out=self.b, mode="clip")
        self.code.take(slot, out=symbols_[self.columns], mode="clip")
        np.right_shift(x, self.shift, out=x)
        np.multiply(x, self.f, out=x)
        np.add(x, self.b, out=x)
        empty = (x < LOWEST_STATE).nonzero()[0]
        if empty.size:
            new = self.words[read : read + empty.size]
            read += empty.size
            if new.size < empty.size:
                raise CorruptArtifact("a scaled rANS stream ends before its last symbol")
            x[empty] = (x.take(empty) << WORD_BITS) | new
        return read


class _Walk:
    """Trellis states of all columns. `offset`: where the table of each column's superset begins, less the class's."""

    def __init__(self, trellis: NDArray[np.uint8], cols: int, precision: int) -> None:
        following = trellis.reshape(-1).astype(np.intp)
        self.doubled = following << 1
        self.offsets = (following & 1) << precision
        self.doubled_state = np.zeros(cols, np.intp)
        self.offset = np.zeros(cols, np.intp)
        self.index = np.empty(cols, np.intp)

    def step(self, symbols: NDArray[np.int32]) -> None:
        np.bitwise_and(symbols, 1, out=self.index, casting="unsafe")
        np.bitwise_or(self.index, self.doubled_state, out=self.index)
        self.doubled.take(self.index, out=self.doubled_state, mode="clip")
        self.offsets.take(self.index, out=self.offset, mode="clip")
