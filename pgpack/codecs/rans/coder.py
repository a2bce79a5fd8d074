"""Static rANS, lane-parallel, integers only; one table per array, one set of lanes for all arrays.

*Layout* of a stream; numbers are little-endian, packed bits most significant first, V is a LEB128 varint, S a V
that holds a signed number zigzag (0, -1, 1, -2, ... are 0, 1, 2, 3, ...):

    V model length | models | packed planes | lane states, 4 bytes each | words, 2 bytes each

 1. Models. For each array that is not empty a byte `form` and S `low`. form mod 4 is the kind, form / 4 its
    parameter: 0 constant; 1 packed, parameter + 1 bits a code; 2 table, parameter k, then V (alphabet - 2);
    3 split: parameter planes follow, each with its own form and low (of kinds 0 to 2).
 2. symbol = low + code. A split array's code is the sum of (plane's low + plane's code) * 256^j over its planes j.
 3. After the descriptors, of all tables in order: the unary quotients (q zeros and a one) of every code's zigzag
    number z >> k, padded to bytes; then the k low bits of every z, padded. The z are second differences of levels
    (two zeros before the first). Frequencies from levels: `tables.frequencies`; they sum to 2^precision.
 4. Packed planes in order, each padded to bytes.
 5. The codes of all tables' planes in order are one sequence of n positions, lane = position mod n_lanes;
    n_lanes = the power of two at or below n / 2^13, clipped to 1 to 1024. Nothing follows step 4 when n = 0.
 6. Decoding a step: slot = x mod 2^precision picks the code c with start[c] <= slot < start[c] + freq[c] of the
    position's own table; x = freq[c] * (x >> precision) + slot - start[c]; then, in lane order, every lane with
    x < 2^16 reads one word: x = x * 2^16 + word. In the end every x is 2^16 and every word is read (checked).

*Source* Duda 2013, arXiv:1311.2540; Giesen 2014, arXiv:1402.3392.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.base import SymbolCoder, SymbolLayout, Symbols
from pgpack.codecs.settings import require_range
from pgpack.errors import CorruptArtifact

from .lanes import (
    BLOCK,
    FEW,
    FEW_BLOCK,
    LOWEST,
    DecodeTables,
    Index,
    block_length,
    decode_block_,
    encode_lanes,
    n_lanes,
)
from .models import CONSTANT, PACKED, TABLE, Cursor, Plane, plan_array, read_models, varint, write_models
from .planes import Positions, digits_of, restored
from .tables import COST_UNIT, frequencies


@dataclass(frozen=True)
class Rans(SymbolCoder):
    """Entropy coder with one static integer table per array; `precision` is log2 of the tables' sums.

    Use when: symbols of any quantizer should cost their entropy: within a few bytes of it, and fast both ways.

    A stream costs about 24 bits per lane and 1 to 3 bytes more than the sum of `ideal_bits`.
    """

    precision: int = 14

    def __post_init__(self) -> None:
        require_range("rans precision", self.precision, 12, 15)

    def encode(self, arrays: Sequence[Symbols]) -> bytes:
        flats = [array.reshape(-1) for array in arrays if array.size]
        models = [plan_array(flat, self.precision) for flat in flats]
        described = write_models(models)
        parts = [varint(len(described)), described]
        digits = digits_of(models, flats)
        parts += [digit.pack() for digit in digits if digit.plane.kind == PACKED]
        parts += self._encode_positions(Positions([digit for digit in digits if digit.plane.kind == TABLE]))
        return b"".join(parts)

    def decode(self, data: bytes, layouts: Sequence[SymbolLayout]) -> list[Symbols]:
        filled = [layout for layout in layouts if layout.size]
        cursor = Cursor(data)
        end = cursor.varint() + cursor.position
        if end > len(data):
            raise CorruptArtifact("a rANS stream ends inside its models")
        models = read_models(data[cursor.position : end], filled)
        codes = [np.zeros(layout.size, f"<u{np.dtype(layout.dtype).itemsize}") for layout in filled]
        digits = digits_of(models, codes)
        for digit in digits:
            if digit.plane.kind == CONSTANT:
                digit.fill_()
            elif digit.plane.kind == PACKED:
                end = digit.unpack_(data, end)
        self._decode_positions(Positions([digit for digit in digits if digit.plane.kind == TABLE]), data, end)
        found = iter([restored(c, m.low, layout) for c, m, layout in zip(codes, models, filled, strict=True)])
        return [next(found) if layout.size else np.zeros(layout.shape, layout.dtype) for layout in layouts]

    def ideal_bits(self, arrays: Sequence[Symbols]) -> list[float]:
        """Cross-entropy of each array under its integer table, and the bits of its model."""
        return [plan_array(array, self.precision).cost / COST_UNIT if array.size else 0.0 for array in arrays]

    def _freqs(self, plane: Plane) -> NDArray[np.int64]:
        assert plane.levels is not None
        return frequencies(plane.levels, self.precision)

    def _encode_positions(self, positions: Positions) -> list[bytes]:
        """States, then words."""
        if not positions.n:
            return []
        freqs = [self._freqs(digit.plane) for digit in positions.digits]
        bases = np.cumsum([0, *(f.size for f in freqs)])
        starts = np.concatenate([np.cumsum(f) - f for f in freqs]).astype(np.uint32)

        def index_of(start: int, stop: int) -> Index:
            index = np.empty(stop - start, np.intp)
            for i, first, where in positions.segments(start, stop):
                index[where] = positions.digits[i].codes(first, first + where.stop - where.start)
                index[where] += bases[i]
            return index

        joined = np.concatenate(freqs).astype(np.uint32)
        states, words = encode_lanes(index_of, joined, starts, positions.n, self.precision)
        return [states.astype("<u4").tobytes(), *words]

    def _decode_positions(self, positions: Positions, data: bytes, start: int) -> None:
        """Puts the codes of all positions into their planes. Raises CorruptArtifact unless `data` ends there."""
        n_states = n_lanes(positions.n) if positions.n else 0
        n_words, odd = divmod(len(data) - start - 4 * n_states, 2)
        if n_words < 0 or odd or (n_words and not n_states):
            raise CorruptArtifact(f"a rANS stream has {len(data) - start} bytes for {n_states} lanes and their words")
        states = np.frombuffer(data, "<u4", n_states, start).astype(np.uint32)
        words = np.frombuffer(data, "<u2", n_words, start + 4 * n_states).astype(np.uint16)
        if (states < LOWEST).any():
            raise CorruptArtifact("a rANS lane has a state below 2^16")
        known: tuple[int, ...] = ()  # the planes that `tables` are of
        tables = DecodeTables.of([], self.precision)
        many = positions.n < FEW * len(positions.digits)
        read, length = 0, block_length(n_states, FEW_BLOCK if many else BLOCK) if n_states else 1
        for first in range(0, positions.n, length):
            segments = list(positions.segments(first, min(first + length, positions.n)))
            if known != (needed := tuple(i for i, *_ in segments)):
                planes = [positions.digits[i].plane for i in needed]
                known, tables = needed, DecodeTables.of([(self._freqs(p), p.low) for p in planes], self.precision)
            n, bases = segments[-1][2].stop, None
            if len(segments) > 1:
                bases = np.arange(len(segments)).repeat([w.stop - w.start for *_, w in segments]) << self.precision
            codes, used = decode_block_(states, words[read:], tables, bases, n, self.precision)
            read += used
            for i, at, where in segments:
                positions.digits[i].put_(at, codes[where])
        if read != n_words or (states != LOWEST).any():
            raise CorruptArtifact("a rANS stream does not end where its symbols end")
