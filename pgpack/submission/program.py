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
import os
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from pgpack.tensors.raw_values import fp8_values
from pgpack.tensors.record import ordered_product, ordered_sum
from pgpack.tensors.trellis import transitions
from pgpack.tensors.trellis_grid import octaves

from .program_rans import Array, Layout, count, joined, packed, take


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
    return symbols if side is None else symbols[np.argsort(side)[: len(symbols)]]


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
    kinds = {"fp32": "<f4", "fp64": "<f8", "bool": "?", "complex64": "<c8", "complex128": "<c16"}
    return symbols.view(kinds.get(dtype, symbols.dtype))


def uniform(symbols: Array, scales: Array, group: int = 0) -> Array:
    """scale * symbol."""
    values = symbols.astype(np.float32)
    values *= spread(scales, group, symbols.shape[1])  # in place: never larger than the symbols
    return values


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


def taken(shape: Sequence[int]) -> int:
    """Values to have room and time for; rows of nothing take time, too."""
    return abs(count([side or 1 for side in shape]))


def state_dict(path: str) -> dict[str, Array]:
    """Every tensor of the artifact by name, tied ones too; float32, integers as they were stored.

    Raises: ValueError where the file is damaged, of another version, or declares more than 400 times its size.
    """
    with open(path, "rb") as file:
        data = file.read()
    checked = [zlib.crc32(part).to_bytes(4, "little") for part in (data[:17], data[21:-4])]
    if data[:5] != b"PGPK\1" or checked != [data[17:21], data[-4:]]:
        raise ValueError("no artifact, or a damaged one")
    at = 21 + int.from_bytes(data[5:9], "little")
    header = json.loads(zlib.decompressobj(-15).decompress(data[21:at], 1 << 24))
    declared = sum(sum(chain[-1]) for chain in (*header["streams"], header["side"]))
    tied = Counter(header.get("aliases", {}).values())
    for name, shape, _, parts in header["tensors"]:
        declared += 4 * taken(shape) * (len(parts) + tied[name])
        for part in parts:
            width = [size[-1] for key, _, size in part[5] if key == "table"]  # values of a symbol
            declared += 4 * taken([*part[3], *width])
            declared += 64 * taken(part[3][:1]) * (part[0] == "trellis")  # rows are walked one by one
        if parts[1:]:
            first, last = ((part[7:] or [shape])[0] for part in parts[-2:])
            declared += 4 * taken([*first[:-1], *last[1:]]) + (taken([*first, *last[1:]]) >> 7)  # and time
    if declared > max(400 * len(data), 1 << 27):
        raise ValueError(f"{len(data)} bytes that declare {declared}")
    tensors = decoded(data, at, header)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name]
        digest.update(f"{name}\0{values.dtype.str}{values.shape}\0".encode() + values.tobytes())
    for name, stored in header.get("aliases", {}).items():
        digest.update(f"{name}\0={stored}\0".encode())
        tensors[name] = tensors[stored]
    if not digest.hexdigest().startswith(header["digest"]):
        raise ValueError("not the weights that were packed")
    return tensors


def main() -> None:
    """Write the state dict as a .npz file, one tensor at a time: whole or not at all. Exits with 2 and the usage, or
    with a sentence, and 1 where a file cannot be read or written, 4 where the artifact is refused."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python decode.py ARTIFACT OUT.npz\n")
        sys.exit(2)
    aside = sys.argv[2] + ".tmp"
    try:
        tensors = state_dict(sys.argv[1])
        if any({"", ".."} & {*name.split("/")} for name in tensors):
            raise ValueError("a tensor is called like a path")
        with zipfile.ZipFile(aside, "w") as out:
            for name, values in tensors.items():
                with out.open(name + ".npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, values)
        os.replace(aside, sys.argv[2])
    except Exception as error:  # noqa: BLE001  whatever a damaged file does to a decoder that trusts it
        sys.stderr.write(f"error: {error}\n")
        if os.path.exists(aside):
            os.remove(aside)
        sys.exit(1 if getattr(error, "errno", None) else 4)  # bz2 raises OSError, without a number, for bad data
