"""The decoder of a submission in its plainest form: artifact -> state dict, or .npz when it is run as a program.

    python decode.py ARTIFACT OUT.npz

Every grid, coder and transform of `formats/own/FORMAT.md` in a few lines. Version, checks, and the bytes that the
header declares are looked at before anything is decoded, the digest of the weights at the end; what lies between
trusts the file: `pgpack.unpack` is the decoder for files of strangers. `decoder` joins this with the definitions that
it imports, those of `byte_streams` among them, and leaves out what a submission does not use.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.rans.tables import frequencies
from pgpack.tensors.raw_values import fp8_values
from pgpack.tensors.record import ordered_product, ordered_sum
from pgpack.tensors.trellis import transitions
from pgpack.tensors.trellis_grid import octaves

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


class Lanes:
    """Lane-parallel rANS. `tables`: (lowest symbol, levels of the frequencies) or None for one that is not used."""

    def __init__(self, data: bytes, n: int, tables: Sequence[Any], precision: int) -> None:
        self.n = 1 << max(0, min(n >> 13, 1024).bit_length() - 1)
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
        codes = Lanes(file.read(), sum(sizes), tables, precision).sequence(np.repeat(np.arange(len(sizes)), sizes))
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
    models = BytesIO(file.read(number(file)))
    precision, n_classes, lowest = number(models), number(models), signed(models)
    heads: list[tuple[int, ...]] = []  # (alphabet, lowest symbol, k) of a table; (0,) of a class that does not occur
    for _ in range(n_classes << (states > 0)):
        size = number(models)
        heads.append((size, signed(models), models.read(1)[0]) if size else (0,))
    used = [head for head in heads if head[0]]
    which = np.cumsum([head[0] > 0 for head in heads]) - 1
    tables = [(h[1], table) for h, table in zip(used, rice(models.read(), [(h[0], h[2]) for h in used]), strict=True)]
    if tables:
        lanes = Lanes(file.read(), sum(count(shape) for shape, _ in layouts), tables, precision)
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


def raw(data: bytes, layouts: Sequence[Layout]) -> Iterator[Array]:
    """Symbols as they are."""
    file = BytesIO(data)
    return (take(file, *layout) for layout in layouts)


def bitpack(data: bytes, layouts: Sequence[Layout]) -> Iterator[Array]:
    """Symbols of a fixed width, one after the other."""
    file = BytesIO(data)
    for shape, dtype in layouts:
        low, width = take(file, [1], "<u8"), file.read(1)[0]
        yield (packed(file, count(shape), width) + low).astype(dtype).reshape(shape)


def bitplanes(data: bytes, layouts: Sequence[Layout]) -> Iterator[Array]:
    """Symbols bit by bit, the highest bits of all first."""
    file = BytesIO(data)
    for shape, dtype in layouts:
        low, width = take(file, [1], "<u8"), file.read(1)[0]
        planes = take(file, [width, -(-count(shape) // 8)], "u1")
        yield (joined(np.unpackbits(planes, axis=1, count=count(shape)).T) + low).astype(dtype).reshape(shape)


def transpose(symbols: Array, side: Array | None) -> Array:
    """Symbols of a transposed matrix."""
    return symbols.T if symbols.ndim == 2 else symbols


def row_sort(symbols: Array, side: Array | None) -> Array:
    """Symbols of sorted rows; `side`: their numbers."""
    return symbols if side is None else symbols[np.argsort(side)]


def spread(scales: Array, group: int, cols: int) -> Array:
    """Scales for every column; one for a whole row when `group` is 0."""
    scales = scales.astype(np.float32)
    return np.repeat(scales, min(group, cols), axis=1)[:, :cols] if scales.shape[1] > 1 else scales


def raw_values(symbols: Array, dtype: str) -> Array:
    """Symbols are bit patterns."""
    if dtype == "fp16":
        return symbols.view(np.float16).astype(np.float32)
    if dtype == "bf16":
        return (symbols.astype(np.uint32) << 16).view(np.float32)
    if dtype == "fp8":
        return fp8_values()[symbols]
    return symbols.view({"fp32": "<f4", "fp64": "<f8", "bool": "?"}.get(dtype, symbols.dtype))


def uniform(symbols: Array, scales: Array, group: int = 0) -> Array:
    """scale * symbol."""
    return symbols.astype(np.float32) * spread(scales, group, symbols.shape[1])


def mean_scaled(symbols: Array, scales: Array, group: int) -> Array:
    """symbol * (scale / mean |symbol| of its group)."""
    values = symbols.astype(np.float32)
    if symbols.size:
        sums = np.add.reduceat(np.abs(symbols.astype(int)), np.arange(0, symbols.shape[1], group), axis=1)
        means = np.maximum(sums.astype(np.float32) / np.float32(group), np.float32(1e-8))
        values *= spread(scales.astype(np.float32) / means, group, symbols.shape[1])
    return values


def codebook(symbols: Array, table: Array, scales: Array, group: int = 0) -> Array:
    """scale * table[symbol]."""
    values = table.astype(np.float32)[symbols]
    if scales.size:
        values *= spread(scales, group, symbols.shape[1])[:, :, None]
    return values


def trellis(symbols: Array, columns: Array, rows: Array, trims: Array, step: float, states: int) -> Array:
    """step * row factor * column factor * (2 symbol + b), rows walked from fine to coarse."""
    values = np.zeros(symbols.shape, np.float32)
    state = np.zeros(symbols.shape[1], int)
    walk = np.argsort(rows, kind="stable") if rows.size else range(len(symbols))
    for at, row in zip(walk, symbols, strict=True):
        values[at] = 2 * row.astype(np.float32) + (state & 1)
        state = transitions(states)[state, row & 1]
    values *= np.float32(step)
    if columns.size:
        values *= octaves(columns, 8)
    exponents = np.zeros((len(symbols), 1), np.int16)
    for part in (rows, trims):
        if part.size:
            exponents += part[:, None]
    values *= octaves(exponents, 8)
    return values


# name as in the artifact's header -> function; `decoder` fills in what a submission uses
CODERS: dict[str, Any] = {}
BYTE_CODECS: dict[str, Any] = {}
TRANSFORMS: dict[str, Any] = {}
GRIDS: dict[str, Any] = {}


def undone(data: bytes, codecs: Sequence[str], lengths: Sequence[int]) -> bytes:
    """The bytes before a chain of byte codecs."""
    for i in reversed(range(len(codecs))):
        data = BYTE_CODECS[codecs[i]](data, lengths[i])
    return data


def decoded(data: bytes, at: int, header: dict[str, Any]) -> dict[str, Array]:
    """Stored tensors of an artifact whose body begins at `at`."""
    streams = []
    for i, (coder, codecs, lengths) in enumerate(header["streams"]):
        layouts = [(part[3], part[2]) for *_, parts in header["tensors"] for part in parts if part[4] == i]
        streams.append(CODERS[coder](undone(data[at : at + lengths[-1]], codecs, lengths), layouts))
        at += lengths[-1]
    side = BytesIO(undone(data[at:-4], *header["side"]))
    tensors = {}
    for name, shape, form, parts in header["tensors"]:
        values = []
        for grid, params, _, _, stream, described, *rest in parts:
            arrays = {key: take(side, size, dtype) for key, dtype, size in described}
            symbols, own = next(streams[stream]), shape
            if rest:
                for i in reversed(range(len(rest[0]))):
                    symbols = TRANSFORMS[rest[0][i]](symbols, arrays.pop(f"@{i}", None))
                if rest[1:]:
                    own = rest[1]
            flat = GRIDS[grid](symbols, **params, **arrays).reshape(-1)
            values.append(flat[: count(own)].reshape(own))
        if form == "corrected":
            values = [ordered_sum(values[0], ordered_product(*values[1:]))]
        if form == "factored":
            values = [ordered_product(*values)]
        tensors[name] = values[0].reshape(shape)
    return tensors


def state_dict(path: str) -> dict[str, Array]:
    """Every tensor of the artifact by name, tied ones too; float32, integers as they were stored.

    Exits with a sentence where the file is damaged, of another version, or declares more than 400 times its size.
    """
    with open(path, "rb") as file:
        data = file.read()
    checked = [zlib.crc32(part).to_bytes(4, "little") for part in (data[:17], data[21:-4])]
    if data[:5] != b"PGPK\1" or checked != [data[17:21], data[-4:]]:
        sys.exit("no artifact, or a damaged one")
    at = 21 + int.from_bytes(data[5:9], "little")
    header = json.loads(zlib.decompressobj(-15).decompress(data[21:at], 1 << 24))
    declared = sum(sum(chain[-1]) for chain in (*header["streams"], header["side"]))
    for _, shape, _, parts in header["tensors"]:
        declared += 4 * sum(abs(count(each)) for part in parts for each in (shape, part[3]))
    if declared > max(400 * len(data), 1 << 27):
        sys.exit(f"an artifact of {len(data)} bytes declares {declared}")
    tensors = decoded(data, at, header)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name]
        digest.update(f"{name}\0{values.dtype.str}{values.shape}\0".encode() + values.tobytes())
    for name, stored in header.get("aliases", {}).items():
        digest.update(f"{name}\0={stored}\0".encode())
        tensors[name] = tensors[stored]
    if not digest.hexdigest().startswith(header["digest"]):
        sys.exit("these are not the weights that were packed")
    return tensors


def main() -> None:
    """Write the state dict as a .npz file, one tensor at a time."""
    try:
        tensors = state_dict(sys.argv[1])
    except Exception as error:  # noqa: BLE001  whatever a damaged file does to a decoder that trusts it
        sys.exit(f"not decoded: {error}")
    if any({"", ".."} & {*name.split("/")} for name in tensors):
        sys.exit("a tensor is called like a path")
    with zipfile.ZipFile(sys.argv[2], "w") as out:
        for name, values in tensors.items():
            with out.open(name + ".npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values)
