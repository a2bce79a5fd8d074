"""What a quantizer and a transform are. numpy and scipy only: packing needs no torch.

    matrix --transform*--> quantizer --> Encoding (form, parts)

A transform wraps what follows it (`inner`), so pruning, factorization and correction combine with every
quantizer. Tensors with more than two dimensions are folded to (shape[0], -1) before they get here; 0-d and 1-d
tensors to (1, n).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.tensors.grids import QuantizedTensor

from .settings import check_settings

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class QuantizerInput:
    """One matrix and what is known about it.

    Shape: weight (out, in) float32; hessian (in, in) float32 = mean over tokens of x x^T of the layer's input, or
    (in,), a diagonal one, or None; fisher (out,) float32 = mean over tokens of (dL/dy)^2, or None; keep (out, in)
    bool, or None: where it is False the decoded weight must be exactly 0. lookup_hessian (in, in), lookup_fisher
    (out,): the same for a table whose rows are looked up as inputs (`pgpack.calibration.calibration`). outputs
    (out, out) = mean over tokens of d d^T, d = dL/dy, or None; fisher is its diagonal.
    """

    name: str
    weight: Matrix
    hessian: NDArray[np.float32] | None = None
    fisher: NDArray[np.float32] | None = None
    keep: NDArray[np.bool_] | None = None
    lookup_hessian: NDArray[np.float32] | None = None
    lookup_fisher: NDArray[np.float32] | None = None
    outputs: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Encoding:
    """A quantized matrix: `form` and `parts` as in `pgpack.tensors.record`.

    `residual_norm` is the Frobenius norm of the error before a low-rank correction, None without one.
    """

    form: str
    parts: tuple[QuantizedTensor, ...]
    residual_norm: float | None = None


Inner = Callable[[QuantizerInput], Encoding]


class Stage:
    """A frozen dataclass whose fields are its whole configuration; what it does not declare otherwise is as here."""

    needs_hessian: ClassVar[bool] = False  # refuses to work without one

    def __post_init__(self) -> None:
        check_settings(self)


class Quantizer(Stage, ABC):
    """Matrix -> symbols on a grid. Never changes its input. Raises CalibrationError when it lacks a Hessian."""

    @abstractmethod
    def quantize(self, source: QuantizerInput) -> QuantizedTensor: ...

    @property
    def bits(self) -> int:
        """Width that a field's container stores each symbol in; 0: it is read off the symbols."""
        return 0

    @property
    def corrects_rows(self) -> bool:
        """Whether `outputs`, the second moments of output gradients, are of use."""
        return False


class Transform(Stage, ABC):
    """Changes the matrix before, or corrects it after, the rest of its chain."""

    @abstractmethod
    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding: ...

    def bind(self, population: Iterable[Matrix]) -> Transform:
        """This transform with everything settled that depends on all matrices it applies to (a global threshold);
        one that looks at a matrix at a time is settled from the start and does not read the population."""
        return self

    @property
    def top(self) -> int:
        """How many of the tensors it applies to keep their low-rank correction; 0: all of them."""
        return 0
