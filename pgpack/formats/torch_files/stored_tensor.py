"""A tensor as a torch.save stream holds it, in numpy alone, and the way to and from raw quantized parts.

numpy has no bfloat16, so the dtype is a name of its own: a bfloat16 tensor is an array of its bit patterns (uint16),
a float8_e4m3fn or bool tensor one of bytes. Refuses complex and quantized dtypes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.raw_values import RAW_DTYPES, RawValues

RAW_NAMES = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8",
    "float64": "fp64",
    "int64": "int64",
    "int32": "int32",
    "int16": "int16",
    "int8": "int8",
    "uint8": "uint8",
    "bool": "bool",
}
ARRAY_DTYPES = {name: RAW_DTYPES[raw] for name, raw in RAW_NAMES.items()} | {
    "float32": "<f4",
    "float16": "<f2",
    "float64": "<f8",
}
TORCH_NAMES = {raw: name for name, raw in RAW_NAMES.items()}
_FLOATING = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float64")


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """Contents of `dtype` (torch's name, such as 'float16') in an array of ARRAY_DTYPES[dtype]."""

    dtype: str
    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def contents(self) -> memoryview:
        """The bytes of a contiguous array."""
        return self.array.reshape(-1).view(np.uint8).data


def stored(array: NDArray[Any]) -> StoredTensor:
    """The tensor of an int8, float16 or float32 array; contiguous, copied only where it is not."""
    return StoredTensor(array.dtype.name, np.asarray(array, ARRAY_DTYPES[array.dtype.name], order="C"))


def stored_of_raw(part: QuantizedTensor, shape: tuple[int, ...]) -> StoredTensor:
    """The tensor whose bit patterns are the symbols of a `RawValues` part."""
    assert isinstance(part.grid, RawValues)
    name = TORCH_NAMES[part.grid.dtype]
    n = int(np.prod(shape, dtype=np.int64))
    bits = np.ascontiguousarray(part.symbols, RAW_DTYPES[part.grid.dtype]).reshape(-1)[:n]
    return StoredTensor(name, bits.view(ARRAY_DTYPES[name]).reshape(shape))


def raw_of_stored(tensor: StoredTensor) -> QuantizedTensor:
    """The inverse of `stored_of_raw`."""
    raw = RAW_NAMES[tensor.dtype]
    bits: NDArray[Any] = tensor.array.view(RAW_DTYPES[raw])
    if tensor.dtype in _FLOATING:  # as the packer folds them; integers keep their shape
        bits = bits.reshape(folded_shape(bits.shape))
    return QuantizedTensor(bits, RawValues(raw), tensor.shape)


def require_stored(value: Any, key: str) -> StoredTensor:
    """`value` itself. Raises CorruptArtifact when it is no tensor."""
    if not isinstance(value, StoredTensor):
        raise CorruptArtifact(f"{key}: found {type(value).__name__}, expected a tensor")
    return value


def folded_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The matrix as which a tensor was quantized: (shape[0], rest), or one row."""
    n = int(np.prod(shape, dtype=np.int64))
    return (shape[0], int(np.prod(shape[1:], dtype=np.int64))) if len(shape) > 1 else (1, n)
