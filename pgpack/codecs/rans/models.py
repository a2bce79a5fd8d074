"""What the rANS stream says about each array: how its symbols become planes, and the model of each plane.

    array --minus its minimum--> codes --whole, or byte by byte--> planes: constant | packed | table

Refuses: tables for planes of fewer than MIN_TABLE symbols, and of fewer than 4 symbols per code of the alphabet:
they would hardly save anything, and so a decoder's memory is bounded by the symbols that it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pgpack.codecs.base import SymbolLayout, Symbols
from pgpack.codecs.fixed_width import CHUNK, codes_of, span
from pgpack.errors import CorruptArtifact

from .tables import (
    COST_UNIT,
    MAX_RICE,
    Ints,
    coded_cost,
    frequencies,
    levels_from,
    levels_of,
    residuals,
    rice_bits,
    rice_decode,
    rice_encode,
    rice_parameter,
)

CONSTANT, PACKED, TABLE, SPLIT = range(4)
MIN_TABLE = 256
MAX_ALPHABET = 1 << 16


@dataclass(frozen=True, eq=False)
class Plane:
    """Codes low, low + 1, ... of one plane. `param`: bits of a packed code, or the table's Rice parameter.

    `size`, `levels`: alphabet and levels of a table, 1 and None otherwise.
    Units: `cost` in 1/COST_UNIT bit, model included.
    """

    kind: int
    low: int
    param: int = 0
    size: int = 1
    levels: Ints | None = None
    cost: int = 0


@dataclass(frozen=True, eq=False)
class ArrayModel:
    """symbol = low + sum over j of (code of plane j) * 256^j."""

    low: int
    planes: tuple[Plane, ...]

    @property
    def cost(self) -> int:
        head = 8 * len(varint(zigzag(self.low))) + (8 if len(self.planes) > 1 else 0)
        return COST_UNIT * head + sum(plane.cost for plane in self.planes)


def zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def varint(value: int) -> bytes:
    """LEB128: 7 bits a byte, low bits first, the top bit set on all but the last."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class Cursor:
    """Reads numbers from the front of `data`. Raises CorruptArtifact at its end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self.position = 0

    def byte(self) -> int:
        if self.position >= len(self.data):
            raise CorruptArtifact("a rANS stream ends inside its models")
        self.position += 1
        return self.data[self.position - 1]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise CorruptArtifact("a number in a rANS stream has more than 70 bits")

    def signed(self) -> int:
        value = self.varint()
        return -((value + 1) >> 1) if value & 1 else value >> 1


def plan_array(array: Symbols, precision: int) -> ArrayModel:
    """The cheapest model of `array`, which is not empty."""
    low, width = span(array)
    flat = array.reshape(-1)
    whole = plan_plane(flat, low, width, 0, precision) if width <= 16 else packed_plane(0, width, flat.size)
    plans = [ArrayModel(low, (whole,))]
    if width > 8:
        n_planes = (width + 7) // 8
        plans.append(ArrayModel(low, tuple(plan_plane(flat, low, 8, j, precision) for j in range(n_planes))))
    return min(plans, key=lambda plan: plan.cost)


def plan_plane(flat: Symbols, low: int, width: int, byte: int, precision: int) -> Plane:
    """The cheapest model of byte `byte` (or of all `width` > 8 bits) of the codes symbol - low."""
    if flat.size < MIN_TABLE:  # no table: the range of the codes is all that counts
        codes = codes_of(flat, low) >> np.uint64(8 * byte) & np.uint64((1 << width) - 1)
        first, last = int(codes.min()), int(codes.max())
        if first == last:
            return Plane(CONSTANT, first, cost=COST_UNIT * 16)
        return packed_plane(first, (last - first).bit_length(), flat.size)
    counts = np.zeros(1 << width, np.int64)
    for start in range(0, flat.size, CHUNK):
        codes = codes_of(flat[start : start + CHUNK], low) >> np.uint64(8 * byte)
        counts += np.bincount((codes & np.uint64(counts.size - 1)).astype(np.intp), minlength=counts.size)
    used = np.flatnonzero(counts)
    first, size = int(used[0]), int(used[-1] - used[0]) + 1
    if size == 1:
        return Plane(CONSTANT, first, cost=COST_UNIT * 16)
    packed = packed_plane(first, (size - 1).bit_length(), flat.size)
    if not may_have_table(flat.size, size) or used.size > 1 << (precision - 1):
        return packed
    counts = counts[first : first + size]
    levels = levels_of(counts)
    z = residuals(levels)
    k = rice_parameter(z)
    model_bits = 8 * (2 + len(varint(size - 2))) + rice_bits(z, k)
    cost = COST_UNIT * model_bits + coded_cost(counts, frequencies(levels, precision), precision)
    table = Plane(TABLE, first, k, size, levels, cost)
    return table if table.cost < packed.cost else packed


def may_have_table(n: int, alphabet: int) -> bool:
    return n >= MIN_TABLE and alphabet <= MAX_ALPHABET and 4 * alphabet <= n


def packed_plane(low: int, width: int, n: int) -> Plane:
    return Plane(PACKED, low, width, cost=COST_UNIT * (16 + width * n))


def write_models(models: Sequence[ArrayModel]) -> bytes:
    """Descriptors of all arrays, then all tables."""
    parts, tables = [], []
    for model in models:
        split = len(model.planes) > 1
        if split:
            parts.append(bytes([SPLIT | len(model.planes) << 2]) + varint(zigzag(model.low)))
        for plane in model.planes:
            param = plane.param - 1 if plane.kind == PACKED else plane.param
            parts.append(bytes([plane.kind | param << 2]) + varint(zigzag(plane.low if split else model.low)))
            if plane.levels is not None:
                parts.append(varint(plane.size - 2))
                tables.append((residuals(plane.levels), plane.param))
    return b"".join(parts) + rice_encode(tables)


def read_models(data: bytes, layouts: Sequence[SymbolLayout]) -> list[ArrayModel]:
    """The inverse of `write_models` for the arrays, none of them empty. Raises CorruptArtifact."""
    cursor = Cursor(data)
    models = [read_array(cursor, layout) for layout in layouts]
    shapes = [(plane.size, plane.param) for model in models for plane in model.planes if plane.kind == TABLE]
    levels = iter([levels_from(z) for z in rice_decode(data[cursor.position :], shapes)])

    def filled(plane: Plane) -> Plane:
        return replace(plane, levels=next(levels)) if plane.kind == TABLE else plane

    return [replace(model, planes=tuple(map(filled, model.planes))) for model in models]


def read_array(cursor: Cursor, layout: SymbolLayout) -> ArrayModel:
    """The model of one array, its tables still without levels."""
    info = np.iinfo(layout.dtype)
    form, low = cursor.byte(), cursor.signed()
    if not info.min <= low <= info.max:
        raise CorruptArtifact(f"symbols of {np.dtype(layout.dtype)} cannot begin at {low}")
    if form & 3 != SPLIT:
        return ArrayModel(low, (read_plane(cursor, form, 0, layout.size, info.bits, int(info.max) - low),))
    if not 2 <= form >> 2 <= info.bits // 8:
        raise CorruptArtifact(f"symbols of {np.dtype(layout.dtype)} are split into {form >> 2} bytes")
    planes = [read_plane(cursor, cursor.byte(), cursor.signed(), layout.size, 8, 255) for _ in range(form >> 2)]
    return ArrayModel(low, tuple(planes))


def read_plane(cursor: Cursor, form: int, low: int, n: int, bits: int, highest: int) -> Plane:
    """A plane of `n` codes of at most `bits` bits, none above `highest`. Raises CorruptArtifact."""
    kind, param, size = form & 3, form >> 2, 1
    if kind == TABLE:
        size = cursor.varint() + 2
        fits = may_have_table(n, size) and param < MAX_RICE
    elif kind == PACKED:
        param += 1
        fits = param <= bits
    else:
        fits = kind == CONSTANT and param == 0
    if not fits or low < 0 or low + size - 1 > highest:
        raise CorruptArtifact(f"a plane of {n} symbols has a model that does not fit it")
    return Plane(kind, low, param, size)
