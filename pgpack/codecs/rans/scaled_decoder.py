"""Decoding of `rans_scaled`: rANS lanes and trellis states, a row at a time. numpy only.

A step is a dozen numpy calls on a few hundred values, so that every allocation and check counts; arrays are made
once and written in place, and look-ups whose indices are in range by construction are not checked again ("clip").
Few lanes are decoded in plain integers, as in `lanes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact
from pgpack.tensors.trellis import transitions

from .lanes import FEW, LOWEST, n_lanes
from .scaled_tables import Table

Trellis = NDArray[np.uint8]  # next states by state and bit, (states, 2)
SHORT = "a scaled rANS stream ends before its last symbol"


def runs(cols: int, lanes: int) -> Iterator[slice]:
    for start in range(0, cols, lanes):
        yield slice(start, min(start + lanes, cols))


class Decoder:
    """The lanes of one stream, matrix after matrix."""

    def __init__(self, data: memoryview, tables: Sequence[Table | None], precision: int, n: int) -> None:
        self.lanes = n_lanes(n) if n else 0
        self.precision = precision
        n_words, odd = divmod(len(data) - 4 * self.lanes, 2)
        if n_words < 0 or odd or (not n and data):
            raise CorruptArtifact(
                f"a scaled rANS stream has {len(data)} bytes for {self.lanes} lanes and their words"
            )
        self.states = np.frombuffer(data, "<u4", self.lanes).astype(np.uint32)
        words = np.frombuffer(data, "<u2", n_words, 4 * self.lanes)
        self.words = words.astype(np.uint16, copy=self.lanes <= FEW)  # a copy is aligned, as `memoryview` needs it
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

    def matrix(self, bases: NDArray[np.intp], levels: NDArray[np.intp], trellis: Trellis | None) -> NDArray[np.int32]:
        """Symbols of one matrix, (rows, cols). Shape: bases (n, cols), first tables of a row of each level; levels
        (rows,), which of the n a row has."""
        cols = bases.shape[1]
        symbols = np.empty((levels.size, cols), np.int32)
        if self.lanes <= FEW:
            self._few(symbols, (bases << self.precision).tolist(), levels.tolist(), trellis)
            return symbols
        pieces = [_Run(self, run) for run in runs(cols, self.lanes)]
        walk = _Walk(transitions(1) if trellis is None else trellis, cols, self.precision)
        first_slots, slots = list(bases << self.precision), np.empty(cols, np.intp)
        for level, found in zip(levels.tolist(), symbols, strict=True):
            np.add(first_slots[level], walk.offset, out=slots)
            for run in pieces:
                self.read = run.step(slots, found, self.read)
            if trellis is not None:
                walk.step(found)
        return symbols

    def _few(
        self, symbols_: NDArray[np.int32], first_slots: list[list[int]], levels: list[int], trellis: Trellis | None
    ) -> None:
        freq, bias, code, words = self.freq.data, self.bias.data, self.code.data, self.words.data
        lanes, walk, read = self.states.tolist(), [0] * symbols_.shape[1], self.read
        following = [[0, 0]] if trellis is None else trellis.tolist()
        mask = (1 << self.precision) - 1
        for level, found in zip(levels, symbols_, strict=True):
            row = []
            for at, first in enumerate(first_slots[level]):
                lane, state = at % len(lanes), walk[at]
                x = lanes[lane]
                slot = first + ((state & 1) << self.precision) + (x & mask)
                x = (x >> self.precision) * freq[slot] + bias[slot]
                if x < LOWEST:
                    if read == len(words):
                        raise CorruptArtifact(SHORT)
                    x = x << 16 | words[read]
                    read += 1
                lanes[lane] = x
                row.append(code[slot])
                walk[at] = following[state][row[-1] & 1]
            found[:] = row
        self.states[:], self.read = lanes, read

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
        # constants as arrays: numpy takes longer to convert a scalar than to read it a thousand times
        self.mask = np.full_like(self.x, (1 << decoder.precision) - 1)
        self.shift = np.full_like(self.x, decoder.precision)
        self.lowest, self.word_bits = np.full_like(self.x, LOWEST), np.full_like(self.x, 16)

    def step(self, slots_: NDArray[np.intp], symbols_: NDArray[np.int32], read: int) -> int:
        """Decode one row's columns; returns the words read so far. `slots_`, the first of each table, is used up."""
        x, slot = self.x, slots_[self.columns]
        np.bitwise_and(x, self.mask, out=self.f)
        np.add(slot, self.f, out=slot)
        self.freq.take(slot, out=self.f, mode="clip")
        self.bias.take(slot, out=self.b, mode="clip")
        self.code.take(slot, out=symbols_[self.columns], mode="clip")
        np.right_shift(x, self.shift, out=x)
        np.multiply(x, self.f, out=x)
        np.add(x, self.b, out=x)
        empty = np.less(x, self.lowest).nonzero()[0]
        if empty.size:
            new = self.words[read : read + empty.size]
            read += empty.size
            if new.size < empty.size:
                raise CorruptArtifact(SHORT)
            refilled = x.take(empty)
            np.left_shift(refilled, self.word_bits[: empty.size], out=refilled)
            np.bitwise_or(refilled, new, out=refilled)
            x[empty] = refilled
        return read


class _Walk:
    """Trellis states of all columns; `offset` is where the table of each column's superset begins, less the class's.

    A state is held with its superset, bit 0, at bit `precision`, which makes the offset, and the symbol's bit in its
    place, which makes the index of the next state.
    """

    def __init__(self, trellis: NDArray[np.uint8], cols: int, precision: int) -> None:
        def held(states: NDArray[np.integer]) -> NDArray[np.intp]:
            return (states & 1).astype(np.intp) << precision | states & 0xFE

        now = held(np.arange(len(trellis)))
        self.following = np.zeros(2 << precision, np.intp)
        self.following[now], self.following[now | 1] = held(trellis[:, 0]), held(trellis[:, 1])
        self.state, self.index, self.offset = np.zeros((3, cols), np.intp)
        self.one, self.superset = np.ones(cols, np.intp), np.full(cols, 1 << precision)

    def step(self, symbols: NDArray[np.int32]) -> None:
        np.bitwise_and(symbols, self.one, out=self.index)
        np.bitwise_or(self.index, self.state, out=self.index)
        self.following.take(self.index, out=self.state, mode="clip")
        np.bitwise_and(self.state, self.superset, out=self.offset)
