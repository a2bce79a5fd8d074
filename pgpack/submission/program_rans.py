"""The rANS coders of `program`: symbols from streams of `rans`, `rans_scaled` and `rans_wide` that are sound.

Layouts are stated in `pgpack.codecs.rans`: `coder`, `scaled`, `wide`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.rans.tables import frequencies
from pgpack.tensors.trellis import transitions

Array = NDArray[Any]
Layout = tuple[Sequence[int], str]  # shape and dtype of symbols


def number(file: BytesIO) -> int:
    """A LEB128 number."""
    byte = file.read(1)[0]
    return byte if byte < 128 else byte - 128 + (number(file) << 7)


def signed(file: BytesIO) -> int:
    """A zigzag number."""
    value = number(file)
    return value >> 1 ^ -(value & 1)


def count(shape: Sequence[int]) -> int:
    """Values in a shape."""
    return math.prod(shape)


def take(file: BytesIO, shape: Sequence[int], dtype: str) -> Array:
    """The next array of a file."""
    return np.frombuffer(file.read(count(shape) * np.dtype(dtype).itemsize), dtype).reshape(shape)


def rice(data: bytes, shapes: Sequence[tuple[int, int]]) -> list[Array]:
    """Levels of frequency tables, given their (alphabet, k)."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    at, found = 0, []
    ones = np.flatnonzero(bits)[: sum(size for size, _ in shapes)]
    quotients = np.diff(ones, prepend=-1) - 1
    place = -(-(ones[-1] + 1) // 8) * 8 if shapes else 0
    for size, k in shapes:
        low = bits[place : place + size * k].reshape(size, k) @ (1 << np.arange(k)[::-1])
        z = (quotients[at : at + size] << k) + low
        found.append(np.cumsum(np.cumsum(z >> 1 ^ -(z & 1))))
        at, place = at + size, place + size * k
    return found


def width(wanted: int, most: int) -> int:
    """Lanes: a power of two."""
    return 1 << max(0, min(wanted, most).bit_length() - 1)


class Lanes:
    """Lane-parallel rANS. `tables`: (lowest symbol, levels of the frequencies) or None for one that is not used."""

    def __init__(self, data: bytes, n: int, tables: Sequence[Any], precision: int) -> None:
        self.n = n
        self.x = np.frombuffer(data, "<u4", self.n).copy()
        self.words = np.frombuffer(data, "<u2", offset=4 * self.n)
        self.precision = precision
        columns = []
        for low, levels in tables:
            freqs = frequencies(levels, precision)
            slots = np.repeat(np.arange(freqs.size), freqs)
            starts = np.cumsum(freqs) - freqs
            columns.append((freqs[slots], np.arange(1 << precision) - starts[slots], slots + low))
        self.freq, self.bias, self.code = np.hstack(columns)

    def take(self, table: Array) -> Array:
        """The next symbol of the first lanes. Shape: table (n_lanes or fewer,), the number of each one's table."""
        x = self.x[: table.size]
        slot = (table << self.precision) + (x & (1 << self.precision) - 1)
        x[:] = self.freq[slot] * (x >> self.precision) + self.bias[slot]
        empty = x < 1 << 16
        n = np.count_nonzero(empty)
        x[empty] = x[empty] << 16 | self.words[:n]
        self.words = self.words[n:]
        symbols: Array = self.code[slot]
        return symbols

    def sequence(self, table: Array) -> Array:
        """The next symbols of as many lanes at a time as there are. Shape: table (n,)."""
        return np.concatenate([self.take(table[at : at + self.n]) for at in range(0, table.size, self.n)])


def rans(data: bytes, layouts: Sequence[Layout], precision: int = 14) -> Iterator[Array]:
    """Symbols of a `rans` stream. A plane is [kind, parameter, lowest code, alphabet, levels, codes]."""
    file = BytesIO(data)
    models = BytesIO(file.read(number(file)))

    def plane(form: int, low: int) -> list[Any]:
        return [form & 3, form >> 2, low, number(models) + 2 if form & 3 == 2 else 0]

    arrays = []
    for shape, _ in layouts:
        if count(shape):
            form, low = models.read(1)[0], signed(models)
            if form & 3 < 3:
                planes = [plane(form, 0)]
            else:
                planes = [plane(models.read(1)[0], signed(models)) for _ in range(form >> 2)]
            arrays.append((count(shape), low, planes))
    every = [(n, each) for n, _, planes in arrays for each in planes]
    coded = [(n, each) for n, each in every if each[0] == 2]
    tables = [(0, levels) for levels in rice(models.read(), [(each[3], each[1]) for _, each in coded])]
    for n, each in every:
        if each[0] == 0:
            each.append(np.zeros(n, int))
        if each[0] == 1:
            each.append(packed(file, n, each[1] + 1))
    if coded:
        sizes = [n for n, _ in coded]
        n = width(sum(sizes) >> 13, 1024)
        codes = Lanes(file.read(), n, tables, precision).sequence(np.repeat(np.arange(len(sizes)), sizes))
        for (_, each), found in zip(coded, np.split(codes, np.cumsum(sizes)), strict=False):
            each.append(found)
    for shape, dtype in layouts:
        total = np.zeros(count(shape), np.uint64)
        if total.size:
            _, low, planes = arrays.pop(0)
            total += np.uint64(low % (1 << 64))
            for j, each in enumerate(planes):
                total += each[4].astype(np.uint64) + np.uint64(each[2]) << np.uint64(8 * j)
        yield total.astype(dtype).reshape(shape)


def packed(file: BytesIO, n: int, width: int) -> Array:
    """The next `n` numbers of `width` bits, padded to bytes."""
    return joined(np.unpackbits(take(file, [-(-n * width // 8)], "u1"), count=n * width).reshape(n, width))


def joined(bits: Array) -> Array:
    """Numbers from their bits, most significant first. Shape: bits (n, width)."""
    total = np.zeros(len(bits), np.uint64)
    for column in bits.T:
        total = total << np.uint64(1) | column
    return total


def rans_scaled(data: bytes, layouts: Sequence[Layout], states: int = 0) -> Iterator[Array]:
    """Symbols of a `rans_scaled` stream; a table for every class and, with a trellis, its bit."""
    file = BytesIO(data)
    shapes = []
    for shape, _ in layouts:
        if count(shape):
            cols = [1, *shape][-1]
            shapes += [([cols], "i1"), ([count(shape) // cols], "i1")]
    levels = rans(file.read(number(file)), shapes)
    precision, n_classes, lowest, which, tables = class_tables(file, states > 0)
    if tables:
        n = width(sum(count(shape) for shape, _ in layouts) >> 13, 1024)
        lanes = Lanes(file.read(), n, tables, precision)
    for shape, dtype in layouts:
        symbols = np.zeros(shape, dtype)
        if symbols.size:
            columns, rows = next(levels).astype(int), next(levels)
            state = np.zeros(columns.size, int)
            for level, row in zip(rows, symbols.reshape(rows.size, -1), strict=True):
                table = np.clip(columns + level - lowest, 0, n_classes - 1)
                if states:
                    table = 2 * table + (state & 1)
                row[:] = lanes.sequence(which[table])
                if states:
                    state = transitions(states)[state, row & 1]
        yield symbols


def class_tables(file: BytesIO, trellis: bool) -> tuple[int, int, int, Array, list[tuple[int, Array]]]:
    """(precision, classes, lowest class, which of the tables each class and bit has, tables)."""
    models = BytesIO(file.read(number(file)))
    precision, n_classes, lowest = number(models), number(models), signed(models)
    heads: list[tuple[int, ...]] = []  # (alphabet, lowest symbol, k) of a table; (0,) of a class that does not occur
    for _ in range(n_classes << trellis):
        size = number(models)
        heads.append((size, signed(models), models.read(1)[0]) if size else (0,))
    used = [head for head in heads if head[0]]
    which = np.cumsum([head[0] > 0 for head in heads]) - 1
    tables = [(h[1], table) for h, table in zip(used, rice(models.read(), [(h[0], h[2]) for h in used]), strict=True)]
    return precision, n_classes, lowest, which, tables


def rans_wide(data: bytes, layouts: Sequence[Layout], states: int = 0) -> Iterator[Array]:
    """Symbols of a `rans_wide` stream. A matrix is [classes, shifts, tails, symbols]; a piece of one [rows, symbols,
    classes, where the lowest bits are those of heads, those that are not, states]."""
    file, trellis = BytesIO(data), states > 1
    n_escapes = number(file)
    n = width(sum(count(shape) for shape, _ in layouts) >> 14, 4096)
    sides, sizes = [], []
    for shape, _ in layouts:
        if count(shape):
            cols = [1, *shape][-1]
            rows = count(shape) // cols
            height = -(-rows // max(1, min(n // cols, rows >> 12)))
            sizes.append((rows, cols, height))
            sides += [([cols], "i1"), ([rows], "i1"), ([(rows - 1) // height * trellis, cols], "u1")]
    found = list(rans(file.read(number(file)), [*sides, ([n_escapes], "i8"), ([n_escapes], "i8")]))
    tails = BytesIO(file.read(number(file)))
    precision, n_classes, lowest, which, tables = class_tables(file, trellis)
    reach = take(file, [n_classes], "u1").astype(int)
    matrices: list[tuple[Array, ...]] = []
    bands: list[list[Any]] = []
    taken = n
    for i, (rows, cols, height) in enumerate(sizes):
        classes = found[3 * i + 1].astype(int)[:, None] + found[3 * i]
        shifts = np.maximum((classes - 13) // 4, 0)
        low = np.zeros((rows, cols), int)
        for shift in np.unique(shifts[shifts > 0]).tolist():
            low[shifts == shift] = packed(tails, int(np.count_nonzero(shifts == shift)), shift)
        classes = np.clip(classes - 4 * shifts - lowest, 0, n_classes - 1)
        matrices.append((classes, shifts, low, np.zeros((rows, cols), int)))
        starts = range(0, rows, height)
        taken += len(starts) * cols
        if taken > n:
            bands.append([])
            taken = len(starts) * cols
        for j, at in enumerate(starts):
            cut = [each[at : at + height] for each in (matrices[i][3], classes, shifts == 0, low & 1)]
            bands[-1].append([len(cut[0]), *cut, found[3 * i + 2][j - 1] if j and trellis else np.zeros(cols, int)])
    if tables:
        lanes = Lanes(file.read(), n, tables, precision)
    for band in bands:
        fill(sorted(band, key=lambda piece: -piece[0]), lanes, which, states)
    places = np.cumsum(found[-2] + 1) - 1
    for shape, dtype in layouts:
        symbols = np.zeros(count(shape), int)
        if symbols.size:
            classes, shifts, low, heads = matrices.pop(0)
            own = (places >= 0) & (places < symbols.size)
            far = places[own]
            heads.flat[far] += found[-1][own] << reach[classes.flat[far]] + 1
            symbols = heads << shifts | low
            places = places - symbols.size
        yield symbols.astype(dtype).reshape(shape)


def fill(pieces: Sequence[Any], lanes: Lanes, which: Array, states: int) -> None:
    """Decode the heads of a band into its pieces."""
    for row in range(pieces[0][0]):
        here = [piece for piece in pieces if row < piece[0]]
        table = np.concatenate([piece[2][row] for piece in here])
        if states > 1:
            table = 2 * table + (np.concatenate([piece[5] for piece in here]) & 1)
        heads = lanes.sequence(which[table])
        for piece in here:
            piece[1][row], heads = np.split(heads, [len(piece[1][row])])
            if states > 1:
                piece[5] = transitions(states)[piece[5], piece[1][row] & 1 & piece[3][row] | piece[4][row]]
