"""One tensor as an artifact holds it: one or more quantized parts and the form that joins them. numpy only.

plain      W = Q
corrected  W = Q + A @ B      (low-rank correction of the quantization error)
factored   W = A @ B          (low-rank factorization)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import FormatError

from .grids import QuantizedTensor
from .raw_values import RawValues

FORMS = {"plain": 1, "corrected": 3, "factored": 2}  # form -> number of parts


@dataclass(frozen=True, eq=False)
class Record:
    """A named tensor of `shape`, decodable from `parts` alone."""

    name: str
    shape: tuple[int, ...]
    form: str
    parts: tuple[QuantizedTensor, ...]

    def __post_init__(self) -> None:
        if FORMS.get(self.form) != len(self.parts):
            raise FormatError(f"{self.name}: form {self.form!r} with {len(self.parts)} parts is not defined")

    @property
    def dtype(self) -> str:
        """numpy's name for the type that `dequantize` gives."""
        grid = self.parts[0].grid
        return grid.values_dtype if self.form == "plain" and isinstance(grid, RawValues) else "float32"

    @np.errstate(over="ignore", invalid="ignore")  # a file's values may be infinite; whoever wants them finite asks
    def dequantize(self) -> NDArray[Any]:
        """Shape: `shape`; float32 unless the tensor was stored as integers."""
        values = [part.dequantize() for part in self.parts]
        if self.form == "corrected":
            return ordered_sum(values[0], ordered_product(values[1], values[2])).reshape(self.shape)
        if self.form == "factored":
            return ordered_product(values[0], values[1]).reshape(self.shape)
        return values[0].reshape(self.shape)


def ordered_product(A: NDArray[Any], B: NDArray[Any]) -> NDArray[Any]:
    """A @ B in float32 summed over the rank in order, so that every machine gets the same bits.

    Shape: A (rows, rank), B (rank, cols). BLAS reorders sums by thread count and instruction set; a decoder
    that must be bit-exact may not. The rank is small, so this is a handful of outer products.
    """
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != B.shape[0]:
        raise FormatError(f"low-rank factors of shapes {A.shape} and {B.shape} do not multiply")
    product = np.zeros((A.shape[0], B.shape[1]), dtype=np.float32)
    for r in range(A.shape[1]):
        product += A[:, r : r + 1] * B[r : r + 1, :]
    return product


def ordered_sum(Q: NDArray[Any], correction: NDArray[Any]) -> NDArray[Any]:
    """Q + correction for a matrix, or for a tensor that was folded to (shape[0], -1)."""
    if Q.size != correction.size:
        raise FormatError(f"a correction of {correction.size} values does not fit {Q.size} weights")
    total: NDArray[Any] = Q + correction.reshape(Q.shape)
    return total
