"""Masks chosen without changing the weights that stay.

Each transform decides which weights must decode to 0 and hands the *unchanged* matrix on with that mask, so a
quantizer with error feedback can compensate what was pruned. Masks of nested transforms add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import RecipeError

from .base import Encoding, Inner, Matrix, QuantizerInput, Transform
from .inputs import checked_hessian, finite_weight
from .settings import NOT_NEGATIVE, SPARSITY, Allowed, setting


def smallest(scores: NDArray[np.floating], count: int) -> NDArray[np.bool_]:
    """True for exactly `count` entries with the least scores along the last axis."""
    mask = np.zeros(scores.shape, dtype=np.bool_)
    if count > 0:
        lowest = np.argpartition(scores, count - 1, axis=-1)[..., :count]
        np.put_along_axis(mask, lowest, True, axis=-1)
    return mask


def with_mask(source: QuantizerInput, keep: NDArray[np.bool_], inner: Inner) -> Encoding:
    """What `inner` makes of the matrix when `keep`, and the mask that was there, must hold."""
    both = keep if source.keep is None else keep & source.keep
    return inner(replace(source, keep=both))


@dataclass(frozen=True)
class PruneMagnitude(Transform):
    """The floor(sparsity * n) weights of least magnitude of each tensor become 0.

    Use when: each tensor must have its own share of exact zeros and nothing is calibrated.
    """

    sparsity: float = setting(SPARSITY, 0.5)

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        magnitudes = np.abs(finite_weight(source)).reshape(-1)
        pruned = smallest(magnitudes, int(self.sparsity * magnitudes.size))
        return with_mask(source, ~pruned.reshape(source.weight.shape), inner)


@dataclass(frozen=True)
class PruneThreshold(Transform):
    """Weights with |w| < threshold become 0.

    Use when: the size of a negligible weight is known.
    """

    threshold: float = setting(Allowed("a finite number of at least 0", NOT_NEGATIVE.has), 0.01)

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        return with_mask(source, np.abs(finite_weight(source)) >= np.float32(self.threshold), inner)


@dataclass(frozen=True)
class PruneGlobal(Transform):
    """One magnitude threshold for all matrices of its rule; `bind` finds it and gives a `PruneThreshold`.

    Use when: the whole model must have a share of exact zeros, and tensors may differ in theirs.
    """

    sparsity: float = setting(SPARSITY, 0.5)

    def bind(self, population: Iterable[Matrix]) -> Transform:
        return PruneThreshold(global_threshold(population, self.sparsity))

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        raise RecipeError(
            f"{source.name}: prune_global knows its threshold only after it has seen all matrices; bind it first"
        )


def global_threshold(population: Iterable[Matrix], sparsity: float) -> float:
    """The largest threshold on a relative grid of 2^-12 that prunes at most `sparsity` of all weights.

    Non-negative float32 order like their bit patterns, so one pass counts them by their upper 20 bits: 8 MB for
    any number of weights, read one matrix at a time.
    """
    counts = np.zeros(1 << 20, dtype=np.int64)
    for matrix in population:
        magnitudes = np.abs(np.ascontiguousarray(matrix, dtype=np.float32)).reshape(-1)
        counts += np.bincount(magnitudes.view(np.uint32) >> 11, minlength=1 << 20)
    below = np.cumsum(counts)
    within = int(np.searchsorted(below, int(sparsity * below[-1]), side="right"))  # first bin that prunes too many
    edge = np.uint32(min(within, (1 << 20) - 1) << 11).view(np.float32)
    return float(edge) if below[-1] and np.isfinite(edge) else 0.0


@dataclass(frozen=True)
class PruneWanda(Transform):
    """In each output row, the floor(sparsity * in) weights of least |W_ij| * sqrt(H_jj) become 0.

    Use when: zeros are wanted and Hessians are there, but correcting the rest of the row is too slow.

    Source: Sun et al. 2023, arXiv:2306.11695, Eq. 1 (sqrt(H_jj) is the norm of input feature j up to a factor).
    """

    sparsity: float = setting(SPARSITY, 0.5)
    needs_hessian: ClassVar[bool] = True

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        H = checked_hessian(source, "prune_wanda")
        scores = np.abs(finite_weight(source)) * np.sqrt(np.maximum(H if H.ndim == 1 else H.diagonal(), 0))
        return with_mask(source, ~smallest(scores, int(self.sparsity * scores.shape[1])), inner)


@dataclass(frozen=True)
class Prune24(Transform):
    """Of every 4 neighbouring weights of a row, the 2 of largest magnitude stay; of equal ones the first.

    Use when: hardware that wants 2 of 4 weights to be zero will run the decoded model.

    A row whose length 4 does not divide keeps at most 2 of its last weights.
    Source: Mishra et al. 2021, arXiv:2104.08378.
    """

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        weight = finite_weight(source)
        rows, cols = weight.shape
        padded = np.full((rows, -(-cols // 4) * 4), -1.0, dtype=np.float32)
        padded[:, :cols] = np.abs(weight)
        fours = padded.reshape(rows, padded.shape[1] // 4, 4)
        rank = np.argsort(np.argsort(-fours, axis=2, kind="stable"), axis=2, kind="stable")
        return with_mask(source, (rank < 2).reshape(padded.shape)[:, :cols], inner)
