"""The arithmetic of lane-parallel rANS: positions of one sequence <-> lane states and 16-bit words.

Position i belongs to lane i mod n_lanes; a step is one position of every lane. Blocks of steps bound the memory.
*Source* Duda 2013, arXiv:1311.2540 (range ANS); Giesen 2014, arXiv:1402.3392 (interleaved streams). We differ: any
number of lanes, all of one step at a time as numpy arrays, the words of a step in the order of its lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact

States = NDArray[np.uint32]
Words = NDArray[np.uint16]
Index = NDArray[np.intp]

LOWEST = 1 << 16  # states are in [2^16, 2^32) between steps
BLOCK = 1 << 16  # positions whose indices are held at once
FEW = 1 << 12  # positions of a table, below which blocks of FEW_BLOCK hold few enough tables to stay in the cache
FEW_BLOCK = 1 << 13
MAX_LANES = 1024  # a lane costs about 24 bits; more lanes save numpy calls
STEPS_PER_LANE = 1 << 13
FEW_LANES = 16  # up to here Python's own integers are quicker than numpy's calls


def n_lanes(n: int) -> int:
    """Lanes for `n` positions: the power of two at or below n / 2^13, from 1 to 1024."""
    wanted = min(n // STEPS_PER_LANE, MAX_LANES)
    return 1 << max(0, wanted.bit_length() - 1)


def block_length(lanes: int, block: int = BLOCK) -> int:
    """Positions per block, a whole number of steps."""
    return lanes * max(1, block // lanes)


@dataclass(frozen=True, eq=False)
class DecodeTables:
    """slot -> frequency, slot - start, code. Shape: (n_tables * 2^precision,)."""

    freq: States
    bias: States
    code: Words

    @staticmethod
    def of(alphabets: Sequence[tuple[NDArray[np.int64], int]], precision: int) -> DecodeTables:
        """The tables of (frequencies, first code) each, one behind another. Shape: frequencies (alphabet,)."""
        n = len(alphabets) << precision
        freq, bias, code = np.empty(n, np.uint32), np.empty(n, np.uint32), np.empty(n, np.uint16)
        slots = np.arange(1 << precision, dtype=np.uint32)
        for at, (freqs, low) in enumerate(alphabets):
            here = slice(at << precision, (at + 1) << precision)
            starts = (np.cumsum(freqs) - freqs).astype(np.uint32)
            freq[here] = np.repeat(freqs.astype(np.uint32), freqs)
            np.subtract(slots, np.repeat(starts, freqs), out=bias[here])
            code[here] = np.repeat(np.arange(low, low + freqs.size).astype(np.uint16), freqs)
        return DecodeTables(freq, bias, code)


def encode_lanes(
    index_of: Callable[[int, int], Index], freq: States, start: States, n: int, precision: int
) -> tuple[States, list[bytes]]:
    """Final states and the words in decoding order.

    `index_of(a, b)` gives, for positions a to b, rows of `freq` and `start` (all tables joined).
    """
    states = np.full(n_lanes(n), LOWEST, np.uint32)
    encode_block_ = _encode_few_ if states.size <= FEW_LANES else _encode_many_
    length, parts = block_length(states.size), []
    for first in reversed(range(0, n, length)):
        index = index_of(first, min(first + length, n))
        parts.append(encode_block_(states, index, freq, start, precision).astype("<u2").tobytes())
    return states, parts[::-1]


def _encode_few_(states_: States, index: Index, freq: States, start: States, precision: int) -> Words:
    """Words of one block, coded last position first; `states_` moves on."""
    states, words, lanes = states_.tolist(), [], states_.size
    rows = zip(freq.take(index).tolist(), start.take(index).tolist(), strict=True)
    for at, (f, first) in reversed([*enumerate(rows)]):
        x = states[at % lanes]
        if x >= f << (32 - precision):
            words.append(x & 0xFFFF)
            x >>= 16
        quotient, rest = divmod(x, f)
        states[at % lanes] = (quotient << precision) + rest + first
    states_[:] = states
    return np.array(words[::-1], np.uint16)


def _encode_many_(states_: States, index: Index, freq: States, start: States, precision: int) -> Words:
    """What `_encode_few_` gives, a step at a time."""
    words = np.empty(index.size, np.uint16)  # a position emits at most one word, because precision <= 16
    end = words.size
    for at in reversed(range(0, index.size, states_.size)):
        row = index[at : at + states_.size]
        x, f = states_[: row.size], freq.take(row)
        full = (x >= f << (32 - precision)).nonzero()[0]
        if full.size:
            high = x.take(full)
            words[end - full.size : end] = high & 0xFFFF
            end -= full.size
            x[full] = high >> 16
        quotient = x // f
        quotient *= (1 << precision) - f
        x += quotient  # (x // f) * 2^precision + x % f
        x += start.take(row)
    return words[end:]


def decode_block_(
    states_: States, words: Words, tables: DecodeTables, bases: Index | None, n: int, precision: int
) -> tuple[Words, int]:
    """Codes of one block and the number of words read; `states_` moves on.

    `bases`: first row of each position's table in `tables`, None when there is only one table.
    """
    if states_.size <= FEW_LANES:
        return _decode_few_(states_, words, tables, bases, n, precision)
    slots, lanes = np.empty(n, np.intp), states_.size
    f, b = np.empty(lanes, np.uint32), np.empty(lanes, np.uint32)
    mask, shift = np.uint32((1 << precision) - 1), np.uint32(precision)
    lowest, word_bits, read = np.uint32(LOWEST), np.full(lanes, 16, np.uint32), 0
    for at in range(0, n, lanes):
        row = slots[at : at + lanes]
        if row.size < lanes:
            f, b = f[: row.size], b[: row.size]
        x = states_[: row.size]
        np.bitwise_and(x, mask, row)
        if bases is not None:
            row += bases[at : at + lanes]
        tables.freq.take(row, out=f, mode="clip")  # rows are in range by construction; "clip" skips the check
        tables.bias.take(row, out=b, mode="clip")
        np.right_shift(x, shift, x)
        np.multiply(x, f, x)
        np.add(x, b, x)
        empty = (x < lowest).nonzero()[0]
        if empty.size:
            new = words[read : read + empty.size]
            if new.size < empty.size:
                raise CorruptArtifact("a rANS stream ends before its last symbol")
            refill_(x, empty, new, word_bits)
            read += empty.size
    return tables.code.take(slots), read


def refill_(states_: States, empty: Index, words: Words, word_bits: States) -> None:
    """A word below what the lanes `empty` still hold. Shape: empty and words (n,); word_bits 16s, n or more."""
    refilled = states_.take(empty)
    np.left_shift(refilled, word_bits[: empty.size], out=refilled)
    np.bitwise_or(refilled, words, out=refilled)
    states_[empty] = refilled


def _decode_few_(
    states_: States, words: Words, tables: DecodeTables, bases: Index | None, n: int, precision: int
) -> tuple[Words, int]:
    """`decode_block_`, a position at a time."""
    freq, bias, word = tables.freq.data, tables.bias.data, words.data
    states, lanes, mask, read = states_.tolist(), states_.size, (1 << precision) - 1, 0
    slots = np.zeros(n, np.intp) if bases is None else bases.astype(np.intp)
    slot_of = slots.data
    try:
        for at in range(n):
            state = states[at % lanes]
            slot = slot_of[at] + (state & mask)
            state = freq[slot] * (state >> precision) + bias[slot]
            if state < LOWEST:
                state = state << 16 | word[read]
                read += 1
            states[at % lanes], slot_of[at] = state, slot
    except IndexError:
        raise CorruptArtifact("a rANS stream ends before its last symbol") from None
    states_[:] = states
    return tables.code.take(slots), read
