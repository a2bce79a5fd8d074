"""The tables of `rans_scaled`: how many there are, what one holds, and their layout in the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact

from .models import Cursor, varint, zigzag
from .tables import frequencies, levels_from, levels_of, residuals, rice_decode, rice_encode, rice_parameter

PRECISION, FINE_PRECISION = 12, 15  # log2 of the tables' sums; the second for alphabets above MAX_ALPHABET
MAX_ALPHABET, MAX_FINE_ALPHABET = 1 << 11, 1 << 14
MAX_SLOTS = 1 << 23  # of all tables that are there: 96 MiB of a decoder
MAX_LEVELS = 1 << 22  # of all tables
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Table:
    """Symbols low, low + 1, ... with integer frequencies; `levels` is what is stored of them."""

    low: int
    levels: Ints
    precision: int

    @property
    def freqs(self) -> Ints:
        return frequencies(self.levels, self.precision)


def fitted_table(counts: Ints, low: int, precision: int) -> Table | None:
    """The table of symbols that occur so often, the first of them `low`; None where none occurs."""
    used = np.flatnonzero(counts)
    if not used.size:
        return None
    first, last = int(used[0]), int(used[-1])
    kept = counts[first : last + 1]
    if kept.size == 1:  # rANS needs two symbols; the second never occurs
        kept = np.array([kept[0], 1])
    return Table(low + first, levels_of(kept), precision)


def joined_tables(tables: Sequence[Table | None]) -> tuple[Ints, NDArray[np.uint32], NDArray[np.uint32]]:
    """(offsets, freqs, starts) of all tables one behind another: a symbol's place is offsets[table] + symbol."""
    freqs = [table.freqs for table in tables if table is not None]
    offsets, at = np.zeros(len(tables), np.int64), 0
    for i, table in enumerate(tables):
        if table is not None:
            offsets[i] = at - table.low
            at += table.levels.size
    starts = [np.cumsum(f) - f for f in freqs]
    return offsets, np.concatenate(freqs).astype(np.uint32), np.concatenate(starts).astype(np.uint32)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The rows and columns that an array is coded in."""
    if len(shape) < 2:
        return 1, int(np.prod(shape, dtype=np.int64))
    cols = shape[-1]
    return int(np.prod(shape[:-1], dtype=np.int64)), cols


def write_tables(tables: Sequence[Table | None]) -> bytes:
    """The tables as `read_tables` reads them, behind what it reads first."""
    parts, coded = [], []
    for table in tables:
        if table is None:
            parts.append(varint(0))
            continue
        z = residuals(table.levels)
        k = rice_parameter(z)
        parts.append(varint(table.levels.size) + varint(zigzag(table.low)) + bytes([k]))
        coded.append((z, k))
    return b"".join(parts) + rice_encode(coded)


def n_slots(data: bytes, width: int) -> int:
    """Slots of all tables that `read_tables` reads. Raises CorruptArtifact."""
    found, precision, _, _ = _read_shapes(Cursor(data), width)
    return sum(entry is not None for entry in found) << precision


def read_tables(data: bytes, width: int) -> tuple[list[Table | None], int, int, int]:
    """(tables, precision, lowest class, number of classes). Raises CorruptArtifact."""
    cursor = Cursor(data)
    found, precision, lowest, n_classes = _read_shapes(cursor, width)
    shapes = [(entry[0], entry[2]) for entry in found if entry]
    if len(shapes) << precision > MAX_SLOTS or sum(size for size, _ in shapes) > MAX_LEVELS:
        raise CorruptArtifact(f"a scaled rANS stream has {len(shapes)} tables that are too large together")
    levels = iter([levels_from(z) for z in rice_decode(data[cursor.position :], shapes)])
    tables = [Table(entry[1], next(levels), precision) if entry else None for entry in found]
    return tables, precision, lowest, n_classes


def _read_shapes(cursor: Cursor, width: int) -> tuple[list[tuple[int, int, int] | None], int, int, int]:
    """(alphabet, lowest symbol and Rice parameter of each table, or None), and what `read_tables` gives beside."""
    precision, n_classes, lowest = cursor.varint(), cursor.varint(), cursor.signed()
    if not 1 <= n_classes <= 512 or abs(lowest) > 256 or precision not in (PRECISION, FINE_PRECISION):
        raise CorruptArtifact(
            f"a scaled rANS stream has {n_classes} classes from {lowest} and a precision of {precision}"
        )
    found: list[tuple[int, int, int] | None] = []
    for _ in range(n_classes * width):
        size = cursor.varint()
        found.append((size, cursor.signed(), cursor.byte()) if size else None)
        entry = found[-1]
        if size > MAX_FINE_ALPHABET or (entry and (abs(entry[1]) > 1 << 30 or entry[2] > 24)):
            raise CorruptArtifact("a table of a scaled rANS stream is out of range")
    return found, precision, lowest, n_classes


def take_section(data: memoryview, cursor: Cursor) -> bytes:
    """The next section, behind its length; `cursor` moves on. Raises CorruptArtifact."""
    length = cursor.varint()
    section = data[cursor.position : cursor.position + length]
    if len(section) < length:
        raise CorruptArtifact("a scaled rANS stream ends inside its side information")
    cursor.position += length
    return bytes(section)
