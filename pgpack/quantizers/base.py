"""What a quantizer and a transform are. numpy and scipy only: packing needs no torch.

    matrix --transform*--> quantizer --> Encoding (form, parts)

A transform wraps what follows it (`inner`), so pruning, factorization and correction combine with every
quantizer. Tensors with more than two dimensions are folded to (shape[0], -1) before they get here; 0-d and 1-d
tensors to (1, n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pgpack.tensors.grids import QuantizedTensor

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class QuantizerInput:
    """One matrix and what is known about it.

    Shape: weight (out, in) float32; hessian (in, in) float32 = mean over tokens of x x^T of the layer's input,
    or None; fisher (out,) float32 = mean over tokens of (dL/dy)^2, or None; keep (out, in) bool, or None:
    where it is False the decoded weight must be exactly 0. lookup_hessian (in, in), lookup_fisher (out,): the same
    for a table whose rows are looked up as inputs (`pgpack.calibration.calibration`). outputs (out, out) = mean
    over tokens of d d^T, d = dL/dy, or None; fisher is its diagonal.
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


class Quantizer(Protocol):
    """Matrix -> symbols on a grid. Never changes its input. Raises CalibrationError when it lacks a Hessian."""

    def quantize(self, source: QuantizerInput) -> QuantizedTensor: ...


class Transform(Protocol):
    """Changes the matrix before, or corrects it after, the rest of its chain."""

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding: ...

    def bind(self, population: Iterable[Matrix]) -> Transform:
        """This transform with everything settled that depends on all matrices it applies to (a global
        threshold); most return themselves."""
        ...


class PerMatrix:
    """Base of the transforms that look at one matrix at a time: bound from the start."""

    def bind(self, population: Iterable[Matrix]) -> Self:
        """Itself; the population is not read."""
        return self


def needs_hessian(stage: Any) -> bool:
    """Whether a quantizer or transform refuses to work without a Hessian."""
    return bool(getattr(type(stage), "requires_hessian", False))
