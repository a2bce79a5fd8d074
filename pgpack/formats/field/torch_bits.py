"""The ternary and binary records' export: one torch.save of a dictionary per tensor, then a byte codec. Read only.

    type ternary          packed: 5 trits a byte, least significant first, symbol + 1 each; scale per group
         ternary_bitmask  packed: bits of the nonzeros, then the sign bits of those (1 is +1), each from the high bit
         binary           packed: sign bits (1 is +1) from the low bit; scale per group
         fp4              packed: uint8, two symbols + 8 a byte, the first in the low half; scale per row
         fp8, fp16, bf16  data: raw values

    shape, padded_cols, group_size   the matrix, its columns filled up to whole groups, and their length
    n_trits or n_bits                symbols that were packed;  orig_shape: the tensor's own shape

A ternary weight is symbol * scale / (share of nonzeros in its group), a binary one symbol * scale. Columns that were
filled up are dropped. Reading returns weights as the steps give them; the scripts then cast them to bfloat16.
Source: openai/parameter-golf, records 2026-03-24 (74 M ternary, 106 M binary) and 2026-04-05 (118 M XNOR, whose file
begins with a byte that names the codec).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact, FormatError
from pgpack.formats.torch_files.stored_tensor import StoredTensor, raw_of_stored, require_stored
from pgpack.tensors.grids import MeanScaled, QuantizedTensor, UniformGrid
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record

from .torch_baseline import DEFAULT_LIMIT

TERNARY, BINARY = "torch_ternary", "torch_binary"
RAW_TYPES = {"fp8": "float8_e4m3fn", "fp16": "float16", "bf16": "bfloat16"}
MAX_DIMENSIONS = 32
_TRITS = 5


def kind_of(state: Mapping[str, Any]) -> str:
    """TERNARY or BINARY, by the types of the entries."""
    types = [entry.get("type") for entry in state.values() if isinstance(entry, dict)]
    return TERNARY if "ternary" in types or "ternary_bitmask" in types else BINARY


def records_of(state: Mapping[str, Any], limit: int = DEFAULT_LIMIT) -> list[Record]:
    """The records of a loaded dictionary, in its order. Units: `limit` symbols in all.

    Raises: FormatError when an entry is not as the head of this module says.
    """
    records, left = [], limit
    for name, entry in state.items():
        if not isinstance(entry, dict):
            raise CorruptArtifact(f"{name}: found {type(entry).__name__}, expected the dictionary of a tensor")
        records.append(_record(name, entry, left))
        left -= sum(part.symbols.size for part in records[-1].parts)
    return records


def _record(name: str, entry: Mapping[str, Any], left: int) -> Record:
    kind = entry.get("type")
    if not isinstance(kind, str):
        raise CorruptArtifact(f"{name}: its type is {type(kind).__name__}, expected a word")
    if kind in RAW_TYPES:
        tensor = require_stored(entry.get("data"), name)
        if tensor.dtype != RAW_TYPES[kind]:
            raise CorruptArtifact(f"{name}: of type {kind}, but its values are {tensor.dtype}")
        return Record(name, tensor.shape, "plain", (raw_of_stored(tensor),))
    if kind == "fp4":
        return _nibbles(name, entry, left)
    if kind not in ("ternary", "ternary_bitmask", "binary"):
        raise FormatError(f"{name}: stored as {kind!r}, which this version does not read")
    lengths = _shape(name, entry.get("shape"))
    if len(lengths) != 2:
        raise CorruptArtifact(f"{name}: shape has {len(lengths)} numbers, expected 2")
    rows, cols = lengths
    padded, group = _whole_number(name, entry, "padded_cols"), _whole_number(name, entry, "group_size")
    n = _whole_number(name, entry, "n_bits" if kind == "binary" else "n_trits")
    original = _shape(name, entry.get("orig_shape") or [rows, cols])
    if not group or padded % group or not cols <= padded < cols + group or rows * padded != n or n > left:
        raise CorruptArtifact(f"{name}: {n} symbols in groups of {group} do not fill {rows} rows of {padded}")
    if int(np.prod(original, dtype=object)) != rows * cols:
        raise CorruptArtifact(f"{name}: a tensor of shape {original} is no matrix of {rows} x {cols}")
    packed = entry.get("packed")
    if type(packed) is not bytes:
        raise CorruptArtifact(f"{name}: its symbols are {type(packed).__name__}, expected bytes")
    symbols = _UNPACK[kind](name, packed, n).reshape(rows, padded)[:, :cols]
    scales = _scales(name, entry).reshape(-1)
    if scales.size != n // group:
        raise CorruptArtifact(f"{name}: {scales.size} scales for {n // group} groups")
    steps = scales.reshape(rows, padded // group)
    grid = UniformGrid(steps, group) if kind == "binary" else MeanScaled(steps, group)
    part = QuantizedTensor(np.ascontiguousarray(symbols), grid, original)
    return Record(name, original, "plain", (part,))


def _nibbles(name: str, entry: Mapping[str, Any], left: int) -> Record:
    """int4 symbols with a step per row."""
    shape = _shape(name, entry.get("shape"))
    tensor, scales = require_stored(entry.get("packed"), name), _scales(name, entry).reshape(-1)
    n = int(np.prod(shape, dtype=object))
    rows = n // shape[-1] if len(shape) > 1 and shape[-1] else 1
    if tensor.dtype != "uint8" or tensor.array.size != (n + 1) // 2 or scales.size != rows or n > left:
        raise CorruptArtifact(f"{name}: {tensor.array.size} bytes and {scales.size} scales for a tensor of {shape}")
    halves = np.stack([tensor.array.reshape(-1) & 15, tensor.array.reshape(-1) >> 4], axis=1)
    symbols = (halves.reshape(-1)[:n].astype(np.int8) - 8).reshape(rows, n // rows)
    return Record(name, shape, "plain", (QuantizedTensor(symbols, UniformGrid(scales.reshape(-1, 1)), shape),))


def _trits(name: str, packed: bytes, n: int) -> NDArray[np.int8]:
    if len(packed) != -(-n // _TRITS):
        raise CorruptArtifact(f"{name}: {len(packed)} bytes for {n} symbols, five a byte")
    codes = np.frombuffer(packed, np.uint8)
    if codes.size and int(codes.max()) >= 3**_TRITS:
        raise CorruptArtifact(f"{name}: a byte of {int(codes.max())} is no five trits")
    places = np.arange(256)[:, None] // 3 ** np.arange(_TRITS) % 3
    symbols: NDArray[np.int8] = (places - 1).astype(np.int8)[codes].reshape(-1)[:n]
    return symbols


def _masked(name: str, packed: bytes, n: int) -> NDArray[np.int8]:
    n_mask = (n + 7) // 8
    if len(packed) < n_mask:
        raise CorruptArtifact(f"{name}: {len(packed)} bytes, too few for the mask of {n} symbols")
    nonzero = np.unpackbits(np.frombuffer(packed, np.uint8, n_mask), count=n).astype(np.bool_)
    n_signs = int(nonzero.sum())
    if len(packed) != n_mask + (n_signs + 7) // 8:
        raise CorruptArtifact(f"{name}: {len(packed) - n_mask} bytes for {n_signs} signs")
    symbols = np.zeros(n, np.int8)
    signs = np.unpackbits(np.frombuffer(packed, np.uint8, offset=n_mask), count=n_signs)
    symbols[nonzero] = 2 * signs.astype(np.int8) - 1
    return symbols


def _bits(name: str, packed: bytes, n: int) -> NDArray[np.int8]:
    if len(packed) != (n + 7) // 8:
        raise CorruptArtifact(f"{name}: {len(packed)} bytes for {n} bits")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little", count=n)
    signs: NDArray[np.int8] = 2 * bits.astype(np.int8) - 1
    return signs


_UNPACK = {"ternary": _trits, "ternary_bitmask": _masked, "binary": _bits}


def _scales(name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    """Scales as fp16 where they were, else as fp32, which holds bf16 and fp8 exactly."""
    tensor: StoredTensor = require_stored(entry.get("scale"), name)
    if tensor.dtype in ("float16", "float32"):
        return tensor.array.astype(tensor.dtype, copy=False)
    if tensor.dtype not in ("bfloat16", "float8_e4m3fn"):
        raise CorruptArtifact(f"{name}: scales of {tensor.dtype}")
    part = raw_of_stored(tensor)
    assert isinstance(part.grid, RawValues)
    return part.dequantize()


def _shape(name: str, value: Any) -> tuple[int, ...]:
    listed = isinstance(value, list | tuple) and len(value) <= MAX_DIMENSIONS
    if not listed or any(type(length) is not int or not 0 <= length < 1 << 31 for length in value):
        raise CorruptArtifact(f"{name}: its shape is no list of lengths")
    return tuple(value)


def _whole_number(name: str, entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise CorruptArtifact(f"{name}: {key} is no whole number")
    return value
