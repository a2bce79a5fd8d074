"""One tensor as an artifact holds it: one or more quantized parts and the form that joins them. numpy only.

plain      W = Q
corrected  W = Q + A @ B      (low-rank correction of the quantization error)
factored   W = A @ B          (low-rank factorization)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import FormatError

from .grids import QuantizedTensor
from .raw_values import RawValues

LEAST_HALF = 2.0**-19  # fp16 holds less than 6 bits of what is smaller
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

    @property
    def underflows(self) -> bool:
        """Whether the fp16 steps, levels or values of a part are all too small to be held within percents."""
        return any(0 < largest < LEAST_HALF for part in self.parts for largest in _largest_halves(part))

    @np.errstate(over="ignore", invalid="ignore")  # refused below, as a sentence
    def dequantize(self) -> NDArray[Any]:
        """Shape: `shape`; float32 unless the tensor was stored as integers.

        Raises: FormatError where what is worked out is not finite; raw values may be as they were stored.
        """
        values = [part.dequantize() for part in self.parts]
        if self.form == "plain" and isinstance(self.parts[0].grid, RawValues):
            return values[0].reshape(self.shape)
        found = values[0]
        if self.form == "corrected":
            found = ordered_sum(values[0], ordered_product(values[1], values[2]))
        elif self.form == "factored":
            found = ordered_product(values[0], values[1])
        if not np.isfinite(found).all():
            raise FormatError(f"{self.name[:120]} decodes to NaN or infinity, which only raw values may hold")
        return found.reshape(self.shape)


def _largest_halves(part: QuantizedTensor) -> Iterator[float]:
    """The largest magnitude of each fp16 array that a part's values are made of."""
    yield from (float(np.abs(a).max(initial=0)) for a in part.grid.arrays.values() if a.dtype == np.float16)
    if isinstance(part.grid, RawValues) and part.grid.dtype == "fp16":
        yield float(np.abs(part.symbols.view(np.float16)).max(initial=0))


def ordered_product(A: NDArray[Any], B: NDArray[Any]) -> NDArray[Any]:
    """A @ B in float32 summed over the rank in order, so that every machine gets the same bits.

    Shape: A (rows, rank), B (rank, cols). BLAS reorders sums by thread count and instruction set; a decoder
    that must be bit-exact may not. A tile of the product at a time, which the processor's own memory holds: outer
    products of whole matrices take twice as long.
    """
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != B.shape[0]:
        raise FormatError(f"low-rank factors of shapes {A.shape} and {B.shape} do not multiply")
    product = np.zeros((A.shape[0], B.shape[1]), dtype=np.float32)
    wide = max(1, min(B.shape[1], 1 << 12))
    high = (1 << 16) // wide
    for top in range(0, A.shape[0], high):
        for left in range(0, B.shape[1], wide):
            tile = product[top : top + high, left : left + wide]
            once = np.empty_like(tile)
            for r in range(A.shape[1]):
                np.multiply(A[top : top + high, r : r + 1], B[r, left : left + wide], out=once)
                tile += once
    return product


def ordered_sum(Q: NDArray[Any], correction: NDArray[Any]) -> NDArray[Any]:
    """Q + correction for a matrix, or for a tensor that was folded to (shape[0], -1)."""
    if Q.size != correction.size:
        raise FormatError(f"a correction of {correction.size} values does not fit {Q.size} weights")
    total: NDArray[Any] = Q + correction.reshape(Q.shape)
    return total
