"""Dequantization laws: symbols -> float32. numpy only; this is what a decoder must know, and all it must know.

    symbols --grid--> values --reshape--> weights

Every quantizer emits one of these grids. A grid splits into `params` (small JSON values that go into the
artifact's header) and `arrays` (side information that goes into the side stream).
Refuses: anything about *how* symbols were chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import FormatError

from .trellis import supersets

Symbols = NDArray[Any]  # one integer dtype: int8, int16, uint8, uint16, uint32 ...
Weights = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]

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
    "uint8": "|u1",
    "bool": "|u1",
}


class Grid(Protocol):
    """The dequantization law of one tensor."""

    kind: ClassVar[str]

    @property
    def params(self) -> dict[str, Any]:
        """JSON-able decoding parameters."""
        ...

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Side information by name, little-endian dtypes."""
        ...

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        """Values in the order of `symbols`; the caller gives them the tensor's shape."""
        ...


@dataclass(frozen=True)
class RawValues:
    """Symbols are the bit patterns of `dtype` (a key of RAW_DTYPES); lossless storage and fp16/bf16 passthrough.

    fp8 is E4M3 without infinities: 1 sign, 4 exponent bits of bias 7, 3 mantissa bits. *Source* Micikevicius et al.
    2022, arXiv:2209.05433.
    """

    dtype: str = "fp16"
    kind: ClassVar[str] = "raw"

    def __post_init__(self) -> None:
        if self.dtype not in RAW_DTYPES:
            raise FormatError(f"unknown raw dtype {self.dtype!r}; known: {', '.join(RAW_DTYPES)}")

    @property
    def params(self) -> dict[str, Any]:
        return {"dtype": self.dtype}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def symbols_of(self, values: NDArray[Any]) -> Symbols:
        """Bit patterns of `values` rounded to this dtype (bf16 and fp8: round to nearest, ties to even)."""
        if self.dtype == "fp8":
            return _fp8_of(np.asarray(values, dtype=np.float32))
        if self.dtype == "bf16":
            bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
            rounded: Symbols = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
            return rounded.reshape(np.shape(values))
        target = {"fp32": np.float32, "fp16": np.float16, "fp64": np.float64}.get(self.dtype)
        array = np.asarray(values, dtype=target or np.dtype(RAW_DTYPES[self.dtype]))
        return np.ascontiguousarray(array).view(RAW_DTYPES[self.dtype]).reshape(np.shape(values))

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        symbols = np.ascontiguousarray(symbols)
        if self.dtype == "bf16":
            return (symbols.astype(np.uint32) << 16).view(np.float32)
        if self.dtype == "fp8":
            return _fp8_values()[symbols.astype(np.uint8, copy=False)]
        if self.dtype == "fp16":
            return symbols.view(np.float16).astype(np.float32)
        view = {"fp32": np.float32, "fp64": np.float64, "bool": np.bool_}.get(self.dtype)
        return symbols.view(view) if view else symbols


def _fp8_values() -> NDArray[np.float32]:
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
    ladder = _fp8_values()[:127].astype(np.float64)
    edges = (ladder[1:] + ladder[:-1]) / 2
    codes = np.searchsorted(edges, magnitudes, side="left")  # a tie goes down ...
    tied = np.isin(magnitudes, edges) & (codes % 2 == 1)  # ... or to the even mantissa
    codes = np.where(np.isnan(magnitudes), 127, np.minimum(codes + tied, 126))
    signed: Symbols = (codes + 128 * np.signbit(values).reshape(-1)).astype(np.uint8)
    return signed.reshape(values.shape)


@dataclass(frozen=True, eq=False)
class UniformGrid:
    """value = scale * symbol, one fp16 (or fp32) scale per row and per group of `group` columns.

    Shape: symbols (rows, cols) signed integers; scales (rows, ceil(cols / group)), or (1, 1) for one per tensor.
    group 0 means the whole row.
    """

    scales: NDArray[Any]
    group: int = 0
    kind: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        if self.scales.ndim != 2 or self.scales.dtype not in (np.float16, np.float32) or self.group < 0:
            raise FormatError("a uniform grid needs 2-D fp16 or fp32 scales and a group >= 0")

    @property
    def params(self) -> dict[str, Any]:
        return {"group": self.group} if self.group else {}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"scales": self.scales}

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        if symbols.ndim != 2:
            raise FormatError(f"a uniform grid decodes 2-D symbols, found {symbols.ndim}-D")
        rows, cols = symbols.shape
        n_groups = -(-cols // self.group) if self.group else 1
        if self.scales.shape not in ((rows, n_groups), (1, 1)):
            raise FormatError(f"scales of shape {self.scales.shape} do not fit symbols {symbols.shape}")
        scales = self.scales.astype(np.float32)
        if scales.shape[1] > 1:
            scales = np.repeat(scales, self.group, axis=1)[:, :cols]
        with np.errstate(invalid="ignore"):  # a file's steps may be infinite: its zeros are then NaN
            values: NDArray[Any] = symbols.astype(np.float32) * scales
        return values


@dataclass(frozen=True, eq=False)
class MeanScaled:
    """value = symbol * (scale / mean |symbol| of its group): the scale is the mean magnitude of the values.

    Shape: symbols (rows, cols) signed; scales (rows, ceil(cols / group)), fp16 or fp32, one per group of `group`
    columns; a short last group counts as filled with zeros. A mean below 1e-8 counts as 1e-8.
    Source: the ternary record of openai/parameter-golf (2026-03-24), whose loader divides by the share of nonzeros.
    """

    scales: NDArray[Any]
    group: int
    kind: ClassVar[str] = "mean_scaled"

    @property
    def params(self) -> dict[str, Any]:
        return {"group": self.group}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"scales": self.scales}

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        if symbols.ndim != 2 or self.scales.ndim != 2 or type(self.group) is not int or self.group < 1:
            raise FormatError("a mean-scaled grid decodes 2-D symbols with 2-D scales in groups of at least 1")
        rows, cols = symbols.shape
        starts = np.arange(0, cols, self.group)
        if self.scales.shape != (rows, len(starts)):
            raise FormatError(f"scales of shape {self.scales.shape} do not fit symbols {symbols.shape}")
        if not symbols.size:
            return symbols.astype(np.float32)
        sums = np.add.reduceat(np.abs(symbols.astype(np.int32)), starts, axis=1)
        means = np.maximum(sums.astype(np.float32) / np.float32(self.group), np.float32(1e-8))
        steps = self.scales.astype(np.float32) / means
        values: NDArray[Any] = symbols.astype(np.float32) * np.repeat(steps, self.group, axis=1)[:, :cols]
        return values


@dataclass(frozen=True, eq=False)
class Codebook:
    """value = table[symbol] (times an optional scale): each symbol stands for `d` neighbouring values of a row.

    Shape: symbols (rows, cols / d) unsigned; table (k, d) fp16 or fp32; scales as in `UniformGrid`, counted in
    symbols, or empty (0, 0) for none.
    """

    table: NDArray[Any]
    scales: NDArray[Any]
    group: int = 0
    kind: ClassVar[str] = "codebook"

    @property
    def params(self) -> dict[str, Any]:
        return {"group": self.group} if self.group else {}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"table": self.table, "scales": self.scales}

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        if symbols.ndim != 2 or self.table.ndim != 2:
            raise FormatError("a codebook decodes 2-D symbols with a 2-D table")
        if symbols.size and int(symbols.max()) >= len(self.table):
            raise FormatError(f"symbol {int(symbols.max())} is outside a codebook of {len(self.table)} entries")
        values = self.table.astype(np.float32)[symbols]  # (rows, n, d)
        if self.scales.size:
            scales = self.scales.astype(np.float32)
            if scales.shape[1] > 1:
                scales = np.repeat(scales, self.group, axis=1)[:, : symbols.shape[1]]
            values = values * scales[:, :, None]
        rows, n, d = values.shape
        return values.reshape(rows, n * d)


def octaves(exponents: NDArray[np.integer[Any]], per_octave: int) -> NDArray[np.float32]:
    """2^(e / per_octave) for per_octave in 1, 2, 4, 8: the same bits on every machine.

    The fractional powers are literal constants (repeated square roots of 2, correctly rounded), the rest is exact.
    """
    whole, part = np.divmod(exponents.astype(np.int64), per_octave)
    fractions = np.array(_EIGHTHS[:: 8 // per_octave], dtype=np.float32)
    values: NDArray[np.float32] = np.ldexp(fractions[part], whole.astype(np.int32))
    return values


_EIGHTHS = (
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    1.4142135623730951,
    1.5422108254079407,
    1.681792830507429,
    1.8340080864093424,
)


@dataclass(frozen=True, eq=False)
class TrellisGrid:
    """value = step * row factor * column factor * (2 symbol + b), b from the column's trellis
    (`pgpack.tensors.trellis`).

    Factors are powers of two to eighths: 2^(exponent / 8). Shape: columns (cols,), rows and trims (rows,) int8, each
    may be empty for all zeros; a row's exponent is rows + trims. Symbols (rows, cols) signed stand in the order that
    the trellis visits the rows, which is `path`. Units: `step` is a float32 value, stored exactly.
    """

    columns: NDArray[Any]
    rows: NDArray[Any]
    trims: NDArray[Any]
    step: float
    states: int
    kind: ClassVar[str] = "trellis"

    @property
    def params(self) -> dict[str, Any]:
        return {"step": self.step, "states": self.states}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"columns": self.columns, "rows": self.rows, "trims": self.trims}

    @property
    def path(self) -> NDArray[np.intp] | slice:
        """Rows of the tensor as the trellis visits them: by `rows` from fine to coarse, equal ones in their order.

        A row far coarser than its weights needs zeros, which a trellis only has in a run: coarse rows come together.
        """
        return walked_rows(self.rows)

    def levels(self, symbols: Symbols) -> NDArray[np.float32]:
        """2 symbol + b of every weight, in the order of the tensor's rows. Shape: (rows, cols)."""
        walked = symbols.astype(np.float32)
        walked *= 2
        walked += supersets(symbols, self.states)
        if not self.rows.size:
            return walked
        levels = np.empty_like(walked)
        levels[self.path] = walked
        return levels

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        n_rows, n_columns = symbols.shape if symbols.ndim == 2 else (-1, -1)
        fits = self.columns.size in (0, n_columns) and {self.rows.size, self.trims.size} <= {0, n_rows}
        if symbols.ndim != 2 or not fits:
            raise FormatError(
                f"trellis factors {self.columns.size}, {self.rows.size}, {self.trims.size} do not fit {symbols.shape}"
            )
        values: NDArray[Any] = self.levels(symbols)
        values *= np.float32(self.step)
        if self.columns.size:
            values *= octaves(self.columns, 8)
        if self.rows.size or self.trims.size:
            values *= octaves(self.row_exponents(n_rows), 8)[:, None]
        return values

    def row_exponents(self, n_rows: int) -> NDArray[np.int16]:
        """rows + trims. Shape: (n_rows,)."""
        exponents = np.zeros(n_rows, np.int16)
        for part in (self.rows, self.trims):
            if part.size:
                exponents += part
        return exponents


def walked_rows(rows: NDArray[np.integer[Any]]) -> NDArray[np.intp] | slice:
    """The order in which a trellis visits rows of these exponents; all rows in their order where there are none."""
    return np.argsort(rows, kind="stable") if rows.size else slice(None)


GRIDS: dict[str, type[Any]] = {
    grid.kind: grid for grid in (RawValues, UniformGrid, MeanScaled, Codebook, TrellisGrid)
}


def grid_from_parts(kind: str, params: Mapping[str, Any], arrays: Arrays) -> Grid:
    """The grid that `params` and `arrays` describe. Raises FormatError on an unknown kind or wrong fields."""
    if kind not in GRIDS:
        raise FormatError(f"unknown grid {kind!r}; this version decodes {', '.join(GRIDS)}")
    try:
        grid: Grid = GRIDS[kind](**params, **arrays)
    except TypeError as error:
        raise FormatError(f"grid {kind!r} has wrong fields: {error}") from None
    return grid


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Integer symbols and the grid that turns them back into weights of `shape`."""

    symbols: Symbols
    grid: Grid
    shape: tuple[int, ...]

    def dequantize(self) -> NDArray[Any]:
        """Shape: `shape`; float32 (integer and bool tensors keep their dtype)."""
        values = self.grid.dequantize(self.symbols).reshape(-1)
        n = int(np.prod(self.shape, dtype=np.int64))
        if values.size < n:
            raise FormatError(f"{values.size} symbols cannot fill a tensor of shape {self.shape}")
        return values[:n].reshape(self.shape)
