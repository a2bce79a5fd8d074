"""Dequantization laws: symbols -> float32. numpy only; this is what a decoder must know, and all it must know.

    symbols --grid--> values --reshape--> weights

Every quantizer emits one of these grids. A grid splits into `params` (small JSON values that go into the
artifact's header) and `arrays` (side information that goes into the side stream).
Refuses: anything about *how* symbols were chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import FormatError

from .base import Arrays, Grid, Symbols
from .raw_values import RawValues
from .trellis_grid import TrellisGrid


@dataclass(frozen=True, eq=False)
class UniformGrid(Grid):
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

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        if symbols.ndim != 2:
            raise FormatError(f"a uniform grid decodes 2-D symbols, found {symbols.ndim}-D")
        rows, cols = symbols.shape
        n_groups = -(-cols // self.group) if self.group else 1
        if self.scales.shape not in ((rows, n_groups), (1, 1)):
            raise FormatError(f"scales of shape {self.scales.shape} do not fit symbols {symbols.shape}")
        scales = _by_column(self.scales, self.group, cols)
        with np.errstate(invalid="ignore"):  # a file's steps may be infinite: its zeros are then NaN
            values: NDArray[Any] = symbols.astype(np.float32) * scales
        return values


def _by_column(scales: NDArray[Any], group: int, cols: int) -> NDArray[np.float32]:
    """Scales in float32, those of groups repeated for each of their columns. Shape: (rows, cols) or (rows, 1)."""
    wide = scales.astype(np.float32)
    return np.repeat(wide, group, axis=1)[:, :cols] if wide.shape[1] > 1 else wide


@dataclass(frozen=True, eq=False)
class MeanScaled(Grid):
    """value = symbol * (scale / mean |symbol| of its group): the scale is the mean magnitude of the values.

    Shape: symbols (rows, cols) signed; scales (rows, ceil(cols / group)), fp16 or fp32, one per group of `group`
    columns; a short last group counts as filled with zeros. A mean below 1e-8 counts as 1e-8.
    Source: the ternary record of openai/parameter-golf (2026-03-24), whose loader divides by the share of nonzeros.
    """

    scales: NDArray[Any]
    group: int
    kind: ClassVar[str] = "mean_scaled"

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        if symbols.ndim != 2 or self.scales.ndim != 2 or type(self.group) is not int or self.group < 1:
            raise FormatError("a mean-scaled grid decodes 2-D symbols with 2-D scales in groups of at least 1")
        rows, cols = symbols.shape
        starts = np.arange(0, cols, self.group)
        if self.scales.shape != (rows, len(starts)):
            raise FormatError(f"scales of shape {self.scales.shape} do not fit symbols {symbols.shape}")
        if not symbols.size:
            return symbols.astype(np.float32)
        whole = symbols.astype(np.int64 if symbols.dtype.itemsize > 2 else np.int32)  # so that no magnitude wraps
        sums = np.add.reduceat(np.abs(whole), starts, axis=1, dtype=np.int64)
        means = np.maximum(sums.astype(np.float32) / np.float32(self.group), np.float32(1e-8))
        steps = self.scales.astype(np.float32) / means
        values: NDArray[Any] = symbols.astype(np.float32) * np.repeat(steps, min(self.group, cols), axis=1)[:, :cols]
        return values


@dataclass(frozen=True, eq=False)
class Codebook(Grid):
    """value = table[symbol] (times an optional scale): each symbol stands for `d` neighbouring values of a row.

    Shape: symbols (rows, cols / d) unsigned; table (k, d) fp16 or fp32; scales as in `UniformGrid`, counted in
    symbols, or empty (0, 0) for none.
    """

    table: NDArray[Any]
    scales: NDArray[Any]
    group: int = 0
    kind: ClassVar[str] = "codebook"

    def dequantize(self, symbols: Symbols) -> NDArray[Any]:
        if symbols.ndim != 2 or self.table.ndim != 2:
            raise FormatError("a codebook decodes 2-D symbols with a 2-D table")
        if symbols.size and int(symbols.max()) >= len(self.table):
            raise FormatError(f"symbol {int(symbols.max())} is outside a codebook of {len(self.table)} entries")
        values = self.table.astype(np.float32)[symbols]  # (rows, n, d)
        if self.scales.size:
            values = values * _by_column(self.scales, self.group, symbols.shape[1])[:, :, None]
        rows, n, d = values.shape
        return values.reshape(rows, n * d)


GRIDS: dict[str, type[Any]] = {
    "raw": RawValues,
    "uniform": UniformGrid,
    "mean_scaled": MeanScaled,
    "codebook": Codebook,
    "trellis": TrellisGrid,
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
