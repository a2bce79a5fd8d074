"""Symbols of any range as heads, which have tables, and what is stored beside them.

    symbol = head * 2^shift + tail      shift: from the class, so that heads are small where symbols are large
    head beyond [-reach, reach)         is coded modulo 2 reach, and the multiple listed: an escape

A class above TOP has a mean magnitude above 2^(TOP / PER_OCTAVE) = 16: down there neighbouring integers are equally
frequent to 0.001 bits, so that tails are plain bits. Both keep a symbol's lowest bit, which moves the trellis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.base import Symbols
from pgpack.errors import CorruptArtifact

PER_OCTAVE = 4
TOP = 4 * PER_OCTAVE  # the largest class that has tables
REACH_BITS = 8
REACH = 1 << REACH_BITS  # the largest; that of a class is a power of two
RARE = 12  # -log2 of the share of a class that may lie beyond its reach: there a place in a table costs more
AT_ONCE = 1 << 16  # tails that are taken apart at a time; a multiple of 8

Ints = NDArray[np.int64]
Levels = NDArray[np.int8]


def table_classes(classes: NDArray[np.int16]) -> NDArray[np.int16]:
    """The classes of heads."""
    folded: NDArray[np.int16] = classes - PER_OCTAVE * _shifts(classes)
    return folded


def _shifts(classes: NDArray[np.int16]) -> NDArray[np.int16]:
    """Bits of the tails, 0 up to TOP."""
    found: NDArray[np.int16] = np.maximum(-((TOP - classes) // PER_OCTAVE), 0)
    return found


@dataclass(frozen=True, eq=False)
class Large:
    """The rows and columns of a matrix that meet in a class above TOP, and the shift where they meet.

    Shape: rows (n,), columns (m,), shift (n, m), 0 where a class is not above TOP.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    shift: NDArray[np.int16]

    @classmethod
    def of(cls, columns: Levels, rows: Levels) -> Large | None:
        """None where no class is above TOP, as nearly everywhere."""
        if int(columns.max()) + int(rows.max()) <= TOP:
            return None
        down = np.flatnonzero(rows.astype(np.int16) + columns.max() > TOP)
        across = np.flatnonzero(columns.astype(np.int16) + rows.max() > TOP)
        classes = rows[down].astype(np.int16)[:, None] + columns[across]
        return cls(down, across, _shifts(classes))

    @property
    def cross(self) -> tuple[NDArray[np.intp], ...]:
        """What a matrix is indexed by."""
        return np.ix_(self.rows, self.columns)


def split(matrix: Symbols, large: Large | None) -> tuple[Symbols, bytes]:
    """(heads, tails) of a matrix; heads as the matrix itself where nothing is large. Of uint64 the bits count."""
    if large is None:
        return matrix, b""
    shift = large.shift
    meeting = matrix[large.cross].astype(np.int64)
    heads = matrix.astype(np.int64) if matrix.dtype.kind == "u" else matrix.copy()
    heads[large.cross] = meeting >> shift
    return heads, b"".join(_packed(meeting[shift == s], s) for s in np.unique(shift).tolist() if s)


def fitted_reach(counts: Ints, beyond: Ints) -> NDArray[np.uint8]:
    """log2 of the reach of each class: the least that leaves a share of 2^-RARE outside.

    Shape: counts (classes, 2 REACH), how often each head occurs; beyond (classes,), how many of them
    lie beyond REACH.
    """
    heads, totals = np.arange(-REACH, REACH), counts.sum(axis=1)
    found = np.full(len(counts), REACH_BITS, np.uint8)
    for bits in range(REACH_BITS - 1, -1, -1):
        outside = counts[:, (heads < -(1 << bits)) | (heads >= 1 << bits)].sum(axis=1) + beyond
        found[outside << RARE <= totals] = bits
    return found


def folded(counts: Ints, reach: NDArray[np.uint8]) -> Ints:
    """`counts` of heads modulo twice the reach of their class. Shape: (classes, 2 REACH) both."""
    found, heads = np.zeros_like(counts), np.arange(-REACH, REACH)
    for own, row, bits in zip(found, counts, reach.tolist(), strict=True):
        np.add.at(own, wrapped(heads, bits) + REACH, row)
    return found


def wrapped(heads: Ints, bits: int | Ints) -> Ints:
    """Heads modulo 2^(bits + 1), from -2^bits on."""
    return heads - (multiples(heads, bits) << (bits + 1))


def multiples(heads: Ints, bits: int | Ints) -> Ints:
    """What `wrapped` takes off, in units of 2^(bits + 1)."""
    one = np.int64(1)
    return (heads + (one << bits)) >> (bits + 1)


def _packed(symbols: Ints, shift: int) -> bytes:
    """The lowest `shift` bits of every symbol, highest first, without gaps."""
    down = np.arange(shift)[::-1]
    parts = []
    for at in range(0, symbols.size, AT_ONCE):
        bits = (symbols[at : at + AT_ONCE, None] >> down) & 1
        parts.append(np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes())
    return b"".join(parts)


def read_tails(data: memoryview, large: Large | None) -> tuple[Ints, int]:
    """Tails where large rows and columns meet, at the front of `data`, and their bytes. Raises CorruptArtifact."""
    if large is None:
        return np.zeros((0, 0), np.int64), 0
    values, read = np.zeros(large.shift.shape, np.int64), 0
    for s in np.unique(large.shift).tolist():
        if s:
            where = large.shift == s
            count = int(where.sum())
            n_bytes = -(-count * s // 8)
            if read + n_bytes > len(data):
                raise CorruptArtifact("a wide rANS stream ends inside its tails")
            values[where] = _unpacked(data[read : read + n_bytes], count, s)
            read += n_bytes
    return values, read


def _unpacked(data: memoryview, count: int, shift: int) -> Ints:
    found, raw = np.zeros(count, np.int64), np.frombuffer(data, np.uint8)
    for at in range(0, count, AT_ONCE):
        part = found[at : at + AT_ONCE]
        bits = np.unpackbits(raw[at * shift // 8 :][: -(-part.size * shift // 8)], count=part.size * shift)
        for column in bits.reshape(-1, shift).T:
            part <<= 1
            part |= column
    return found


def joined(
    heads: NDArray[np.int16], large: Large | None, tails: Ints, places: Ints, more: Ints, dtype: np.dtype[Any]
) -> Symbols:
    """Symbols of `dtype` from the heads of a matrix; those at `places` are by `more` larger. Raises CorruptArtifact
    where one is out of its range."""
    row, column = np.divmod(places, heads.shape[1])
    far = heads[row, column].astype(np.int64) + more
    if dtype.kind == "i":
        _check_range(heads, dtype)  # of unsigned ones, a head may be negative where it is an escape
    symbols = heads.astype(dtype)
    if large is None:
        symbols[row, column] = _check_range(far, dtype).astype(dtype)
        return symbols
    meeting = heads[large.cross].astype(np.int64)
    i, within = _found(large.rows, row)
    j, across = _found(large.columns, column)
    within &= across
    meeting[i[within], j[within]] = far[within]
    outside = ~within
    symbols[row[outside], column[outside]] = _check_range(far[outside], dtype).astype(dtype)
    symbols[large.cross] = _check_range(meeting << large.shift | tails, dtype).astype(dtype)
    return symbols


def _found(among: NDArray[np.intp], values: Ints) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where values stand in the rising `among`, and which of them do."""
    at = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return at, among[at] == values


def _check_range(symbols: Symbols, dtype: np.dtype[Any]) -> Symbols:
    """`symbols` themselves. Raises CorruptArtifact where `dtype` does not hold one; of uint64 the bits count."""
    info = np.iinfo(dtype)
    if dtype != np.uint64 and symbols.size and (int(symbols.min()) < info.min or int(symbols.max()) > info.max):
        raise CorruptArtifact(f"a decoded symbol does not fit {dtype}")
    return symbols
