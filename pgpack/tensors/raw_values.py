"""The grid whose symbols are bit patterns: lossless storage and 16-bit passthrough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import FormatError

from .base import Grid, Symbols

RAW_DTYPES = {
    "fp32": "<u4",
    "fp16": "<u2",
    "bf16": "<u2",
    "fp8": "|u1",
    "fp64": "<u8",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint64": "<u8",
    "uint32": "<u4",
    "uint16": "<u2",
    "uint8": "|u1",
    "bool": "|u1",
    "complex128": "<u8",
    "complex64": "<u4",
}


@dataclass(frozen=True)
class RawValues(Grid):
    """Symbols are the bit patterns of `dtype` (a key of RAW_DTYPES); lossless storage and fp16/bf16 passthrough.

    fp8 is E4M3 without infinities: 1 sign, 4 exponent bits of bias 7, 3 mantissa bits. *Source* Micikevicius et al.
    2022, arXiv:2209.05433. Of a complex value real and imaginary part are two symbols, along a last axis of 2.
    """

    dtype: str
    kind: ClassVar[str] = "raw"

    def __post_init__(self) -> None:
        if self.dtype not in RAW_DTYPES:
            raise FormatError(f"unknown raw dtype {self.dtype!r}; known: {', '.join(RAW_DTYPES)}")

    @property
    def values_dtype(self) -> str:
        """numpy's name for the type of the values: 16 bits and fewer of a float are read as float32."""
        return {"fp64": "float64"}.get(
            self.dtype, "float32" if self.dtype[0] in "fb" and self.dtype != "bool" else self.dtype
        )

    def symbols_of(self, values: NDArray[Any]) -> Symbols:
        """Bit patterns of `values` rounded to this dtype (bf16 and fp8: round to nearest, ties to even)."""
        if self.dtype == "fp8":
            return _fp8_of(np.asarray(values, dtype=np.float32))
        if self.dtype == "bf16":
            bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
            rounded: Symbols = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
            return rounded.reshape(np.shape(values))
        if self.dtype.startswith("complex"):
            flat = np.ascontiguousarray(values, dtype=self.dtype).reshape(-1)
            return flat.view(RAW_DTYPES[self.dtype]).reshape(*np.shape(values), 2)
        target = {"fp32": np.float32, "fp16": np.float16, "fp64": np.float64}.get(self.dtype)
        array = np.asarray(values, dtype=target or np.dtype(RAW_DTYPES[self.dtype]))
        return np.ascontiguousarray(array).view(RAW_DTYPES[self.dtype]).reshape(np.shape(values))

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        symbols = np.ascontiguousarray(symbols)
        if self.dtype == "bf16":
            return (symbols.astype(np.uint32) << 16).view(np.float32)
        if self.dtype == "fp8":
            return fp8_values()[symbols.astype(np.uint8, copy=False)]
        if self.dtype == "fp16":
            return symbols.view(np.float16).astype(np.float32)
        if self.dtype.startswith("complex"):
            if symbols.shape[-1:] != (2,):
                raise FormatError(f"complex values are pairs of symbols, found shape {symbols.shape}")
            return symbols.view(self.dtype).reshape(symbols.shape[:-1])
        view = {"fp32": np.float32, "fp64": np.float64, "bool": np.bool_}.get(self.dtype)
        return symbols.view(view) if view else symbols


def fp8_values() -> NDArray[np.float32]:
    """The value of each of the 256 codes of E4M3. Shape: (256,)."""
    codes = np.arange(256)
    exponents, mantissas = codes >> 3 & 15, codes & 7
    magnitudes = np.ldexp((mantissas + 8 * (exponents > 0)).astype(np.float32), np.maximum(exponents, 1) - 10)
    magnitudes[codes & 127 == 127] = np.nan
    values: NDArray[np.float32] = np.where(codes < 128, magnitudes, -magnitudes).astype(np.float32)
    return values


def _fp8_of(values: NDArray[np.float32]) -> Symbols:
    """The nearest codes of E4M3; beyond 448 the largest, NaN for NaN."""
    magnitudes = np.abs(values).reshape(-1)
    ladder = fp8_values()[:127].astype(np.float64)
    edges = (ladder[1:] + ladder[:-1]) / 2
    codes = np.searchsorted(edges, magnitudes, side="left")  # a tie goes down ...
    tied = np.isin(magnitudes, edges) & (codes % 2 == 1)  # ... or to the even mantissa
    codes = np.where(np.isnan(magnitudes), 127, np.minimum(codes + tied, 126))
    signed: Symbols = (codes + 128 * np.signbit(values).reshape(-1)).astype(np.uint8)
    return signed.reshape(values.shape)
