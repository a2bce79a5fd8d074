"""Decoding of `rans_scaled`: rANS lanes and trellis states, a row at a time. numpy only.

A step is a dozen numpy calls on a few hundred values, so that every allocation and check counts; arrays are made
once and written in place, and look-ups whose indices are in range by construction are not checked again ("clip").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact

from .lanes import FEW_LANES, LOWEST, n_lanes, refill_
from .scaled_tables import Table

LISTED = 1 << 17  # slots of all tables up to which they are lists: quicker, and larger
COLUMNS = 1 << 16  # of a row that are looked up together, a whole number of runs; bounds the 8-byte temporaries


def runs(cols: int, lanes: int) -> Iterator[slice]:
    for start in range(0, cols, lanes):
        yield slice(start, min(start + lanes, cols))


class Decoder:
    """The lanes of one stream, matrix after matrix. `tables`: `width` of each class, of which only those classes that
    have one are held, behind an empty one for all others."""

    def __init__(self, data: memoryview, tables: Sequence[Table | None], width: int, precision: int, n: int) -> None:
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
        held = np.array([table is not None for table in tables]).reshape(-1, width).any(axis=1)
        self.first = width * np.where(held, np.cumsum(held), 0)  # table of each class
        slots = 1 << self.precision
        size = (1 + int(held.sum())) * width * slots
        self.freq = np.ones(size, np.uint32)  # a context without a table never occurs in a sound file
        self.bias = np.zeros(size, np.uint32)
        self.code = np.zeros(size, np.int32)
        for i, table in enumerate(tables):
            if table is not None:
                self._place((int(self.first[i // width]) + i % width) * slots, table)

    def _place(self, at: int, table: Table) -> None:
        freqs = table.freqs
        starts = np.cumsum(freqs) - freqs
        where = slice(at, at + (1 << self.precision))
        self.freq[where] = np.repeat(freqs, freqs)
        self.bias[where] = np.arange(1 << self.precision) - np.repeat(starts, freqs)
        self.code[where] = np.repeat(np.arange(table.low, table.low + freqs.size), freqs)

    def matrix(
        self, classes: NDArray[np.integer], levels: NDArray[np.intp], trellis: NDArray[np.uint8] | None
    ) -> NDArray[np.int32]:
        """Symbols of one matrix, (rows, cols). Shape: classes (n, cols), those of a row of each level; levels
        (rows,), which of the n a row has."""
        cols = classes.shape[1]
        if min(cols, self.lanes) <= FEW_LANES:
            one_by_one = self._one_by_one(self.first[classes], levels, trellis)
            return np.fromiter(one_by_one, np.int32).reshape(levels.size, cols)
        symbols = np.empty((levels.size, cols), np.int32)
        blocks = [slice(at, min(at + COLUMNS, cols)) for at in range(0, cols, COLUMNS)]
        steps = [list(runs(block.stop - block.start, self.lanes)) for block in blocks]
        one_of = {n: _Run(self, n) for n in {run.stop - run.start for each in steps for run in each}}
        walk = None if trellis is None else _Walk(trellis, cols, self.precision)
        ready = list(self.first[classes] << self.precision) if len(blocks) == 1 else None
        slots = np.empty(min(cols, COLUMNS), np.intp)
        for level, found in zip(levels.tolist(), symbols, strict=True):
            for block, each in zip(blocks, steps, strict=True):
                first = ready[level] if ready else self.first[classes[level, block]] << self.precision
                here, now = slots[: first.size], found[block]
                if walk is None:
                    np.copyto(here, first)
                else:
                    np.add(first, walk.offset[block], out=here)
                for run in each:
                    self.read = one_of[run.stop - run.start].step(here[run], now[run], self.read)
                if walk is not None:
                    walk.step(now, block)
        return symbols

    @cached_property
    def _tables(self) -> list[Any]:
        """Frequency, bias and code of a slot, as Python's own integers."""
        tables = (self.freq, self.bias, self.code)
        return [each.data if each.size > LISTED else each.tolist() for each in tables]

    def _one_by_one(
        self, bases: NDArray[np.intp], levels: NDArray[np.intp], trellis: NDArray[np.uint8] | None
    ) -> Iterator[int]:
        """The symbols of `matrix`, row by row: of few lanes or columns Python's own integers are quicker."""
        (freq, bias, code), word = self._tables, self.words.data
        states, precision, read, cols = self.states.tolist(), self.precision, self.read, bases.shape[1]
        mask, bit, lanes = (1 << precision) - 1, 1 << precision, [column % self.lanes for column in range(cols)]
        firsts = chain.from_iterable(map((bases << precision).tolist().__getitem__, levels.tolist()))
        moves, walked = None if trellis is None else trellis.tolist(), [0] * cols
        try:
            for first, column, lane in zip(firsts, cycle(range(cols)), cycle(lanes), strict=False):
                state = states[lane]
                slot = first + (state & mask)
                if moves and walked[column] & 1:
                    slot += bit
                state = freq[slot] * (state >> precision) + bias[slot]
                if state < LOWEST:
                    state = state << 16 | word[read]
                    read += 1
                states[lane], symbol = state, code[slot]
                yield symbol
                if moves:
                    walked[column] = moves[walked[column]][symbol & 1]
        except IndexError:
            raise CorruptArtifact("a scaled rANS stream ends before its last symbol") from None
        self.states[:], self.read = states, read

    def finish(self) -> None:
        """Raises CorruptArtifact unless every word is read and every state is back at its start."""
        if self.read != self.words.size or (self.states != LOWEST).any():
            raise CorruptArtifact("a scaled rANS stream does not end where its symbols end")


class _Run:
    """The first `n` lanes, for as many neighbouring columns, with everything that a step needs in place."""

    def __init__(self, decoder: Decoder, n: int) -> None:
        self.words = decoder.words
        self.freq, self.bias, self.code = decoder.freq, decoder.bias, decoder.code
        self.x = decoder.states[:n]
        self.f, self.b = np.empty_like(self.x), np.empty_like(self.x)
        # constants as arrays: numpy takes longer to convert a scalar than to read it a thousand times
        self.mask = np.full_like(self.x, (1 << decoder.precision) - 1)
        self.shift = np.full_like(self.x, decoder.precision)
        self.lowest, self.word_bits = np.full_like(self.x, LOWEST), np.full_like(self.x, 16)

    def step(self, slot: NDArray[np.intp], symbols_: NDArray[np.int32], read: int) -> int:
        """Decode a row's columns; returns the words read so far. `slot`, the first of each table, is used up."""
        x = self.x
        np.bitwise_and(x, self.mask, out=self.f)
        np.add(slot, self.f, out=slot)
        self.freq.take(slot, out=self.f, mode="clip")
        self.bias.take(slot, out=self.b, mode="clip")
        self.code.take(slot, out=symbols_, mode="clip")
        np.right_shift(x, self.shift, out=x)
        np.multiply(x, self.f, out=x)
        np.add(x, self.b, out=x)
        empty = np.less(x, self.lowest).nonzero()[0]
        if empty.size:
            new = self.words[read : read + empty.size]
            if new.size < empty.size:
                raise CorruptArtifact("a scaled rANS stream ends before its last symbol")
            refill_(x, empty, new, self.word_bits)
        return read + empty.size


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
        self.state, self.offset = np.zeros((2, cols), np.intp)
        self.index = np.zeros(min(cols, COLUMNS), np.intp)
        self.one, self.superset = np.ones_like(self.index), np.full_like(self.index, 1 << precision)

    def step(self, symbols: NDArray[np.int32], columns: slice) -> None:
        n = symbols.size
        index, state = self.index[:n], self.state[columns]
        np.bitwise_and(symbols, self.one[:n], out=index)
        np.bitwise_or(index, state, out=index)
        self.following.take(index, out=state, mode="clip")
        np.bitwise_and(state, self.superset[:n], out=self.offset[columns])
