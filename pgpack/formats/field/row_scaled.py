"""The two kinds of tensor that the field's formats know: int8 symbols with a step per row, and raw values.

`fields_of` takes a record apart into what these formats store, `record_of` puts it together again, bit-exactly.
numpy only. Refuses what they cannot say: codebooks, steps per group of columns, factored and masked forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import FormatError, RecipeError
from pgpack.formats.torch_files.stored_tensor import folded_shape
from pgpack.tensors.grids import QuantizedTensor, UniformGrid
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record


@dataclass(frozen=True, eq=False)
class RowScaled:
    """Shape: symbols, that of the tensor, int8; scales (rows,) or () for one step in all, fp16 or fp32."""

    symbols: NDArray[np.int8]
    scales: NDArray[Any]


def inexpressible(record: Record, container: str, found: str) -> RecipeError:
    """The error for a record that `container` has no words for."""
    return RecipeError(
        f"{record.name}: the field's format {container} holds only raw values and int8 symbols with one step per "
        f"row, found {found}; change its rule, or use @container=pgpack"
    )


def is_raw(record: Record) -> bool:
    """Whether the record is one part of raw values."""
    return record.form == "plain" and isinstance(record.parts[0].grid, RawValues)


def row_scaled(record: Record, container: str) -> RowScaled:
    """The first part of a plain or corrected record. Raises RecipeError when it is not int8 with a step per row."""
    part = record.parts[0]
    grid = part.grid
    if record.form == "factored" or not isinstance(grid, UniformGrid):
        raise inexpressible(record, container, f"form {record.form!r} with grid {grid.kind!r}")
    if part.symbols.dtype != np.int8 or part.symbols.size != np.prod(record.shape, dtype=np.int64):
        raise inexpressible(record, container, f"{part.symbols.size} symbols of dtype {part.symbols.dtype}")
    rows = record.shape[0] if len(record.shape) > 1 else 1
    scales: NDArray[Any]
    if grid.scales.size == 1 and rows != 1:
        scales = grid.scales.reshape(())
    elif grid.scales.shape == (rows, 1):
        scales = grid.scales.reshape(-1) if len(record.shape) > 1 else grid.scales.reshape(())
    else:
        raise inexpressible(record, container, f"steps of shape {grid.scales.shape} for {rows} rows")
    return RowScaled(part.symbols.reshape(record.shape), scales)


def row_scaled_part(name: str, symbols: NDArray[Any], scales: NDArray[Any]) -> QuantizedTensor:
    """The part that `row_scaled` took apart. Raises FormatError when steps and symbols do not fit."""
    rows = symbols.shape[0] if symbols.ndim > 1 else 1
    if symbols.dtype != np.int8 or scales.dtype not in (np.float16, np.float32) or scales.ndim > 1:
        raise FormatError(f"{name}: symbols of {symbols.dtype} with {scales.ndim}-D steps of {scales.dtype}")
    if scales.size not in (1, rows):
        raise FormatError(f"{name}: {scales.size} steps for {rows} rows")
    folded = symbols.reshape(folded_shape(symbols.shape))
    return QuantizedTensor(folded, UniformGrid(scales.reshape(-1, 1)), tuple(symbols.shape))


@dataclass(frozen=True, eq=False)
class LowRank:
    """The two factors of a correction as LQER stores them.

    Shape: A (rows, rank) int8, B (rank, cols) int8; asymmetric: A_scales (), B_scales one per run of neighbours
    of B read row by row; symmetric: A_scales (rows,), B_scales (rank,).
    """

    A: NDArray[np.int8]
    A_scales: NDArray[np.float16]
    B: NDArray[np.int8]
    B_scales: NDArray[np.float16]

    @property
    def asymmetric(self) -> bool:
        return self.A_scales.ndim == 0


def low_rank(record: Record, container: str) -> LowRank:
    """The correction of a corrected record. Raises RecipeError when LQER's two layouts cannot hold it."""
    A, B = record.parts[1], record.parts[2]
    for part in (A, B):
        if not isinstance(part.grid, UniformGrid) or part.symbols.dtype != np.int8:
            raise inexpressible(record, container, f"a correction with grid {part.grid.kind!r}")
        if part.grid.scales.dtype != np.float16:
            raise inexpressible(record, container, f"a correction with steps of {part.grid.scales.dtype}")
        n_values = int(np.prod(part.shape, dtype=np.int64))
        if part.symbols.size != n_values:
            run = part.symbols.shape[-1]
            raise inexpressible(
                record, container, f"a correction of {n_values} values in groups of {run}, the last short"
            )
    assert isinstance(A.grid, UniformGrid)
    assert isinstance(B.grid, UniformGrid)
    A_symbols, B_symbols = A.symbols.reshape(A.shape), B.symbols.reshape(B.shape)
    n_scales = B.grid.scales.size
    cols = B.symbols.shape[1]
    run = B.symbols.size // n_scales if n_scales else 0
    tiled = n_scales == 1 or (run > 0 and run == (B.grid.group or cols) and cols % run == 0)
    if A.grid.scales.size == 1:
        if not tiled or run * n_scales != B.symbols.size:
            raise inexpressible(record, container, "a second factor whose groups do not tile it")
        return LowRank(A_symbols, A.grid.scales.reshape(()), B_symbols, B.grid.scales.reshape(-1))
    if A.grid.scales.shape == (A.shape[0], 1) and B.grid.scales.shape == (B.shape[0], 1):
        return LowRank(A_symbols, A.grid.scales.reshape(-1), B_symbols, B.grid.scales.reshape(-1))
    raise inexpressible(record, container, "a correction with steps per group of its first factor")


def corrected_record(name: str, quantized: QuantizedTensor, correction: LowRank) -> Record:
    """The record of symbols and their correction. Raises FormatError when the shapes do not fit together."""
    A, B = correction.A, correction.B
    rows = quantized.symbols.shape[0]
    if A.ndim != 2 or B.ndim != 2 or (A.shape[0], B.shape[1], A.shape[1]) != (*quantized.symbols.shape, B.shape[0]):
        raise FormatError(f"{name}: factors of shapes {A.shape} and {B.shape} do not fit {quantized.symbols.shape}")
    if any(array.dtype != np.int8 for array in (A, B)):
        raise FormatError(f"{name}: the factors of a correction must be int8")
    if any(array.dtype != np.float16 for array in (correction.A_scales, correction.B_scales)):
        raise FormatError(f"{name}: the steps of a correction must be fp16")
    n_scales = correction.B_scales.size
    if not n_scales or B.size % n_scales:
        raise FormatError(f"{name}: {n_scales} steps do not divide {B.size} values")
    if not correction.asymmetric and (correction.A_scales.size, n_scales) != (rows, B.shape[0]):
        raise FormatError(f"{name}: the steps of a correction do not fit its factors")
    A_part = QuantizedTensor(A, UniformGrid(correction.A_scales.reshape(-1, 1)), A.shape)
    B_grid = UniformGrid(correction.B_scales.reshape(-1, 1))  # runs of B, laid one under the other
    B_part = QuantizedTensor(B.reshape(n_scales, B.size // n_scales), B_grid, B.shape)
    return Record(name, tuple(quantized.shape), "corrected", (quantized, A_part, B_part))
