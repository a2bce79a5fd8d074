"""Pruning with error feedback: the remaining weights take over what the pruned ones did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Encoding, Inner, Matrix, QuantizerInput, Transform
from .feedback import Factor, factorize, feedback_blocks, ordered_transpose
from .inputs import finite_weight
from .pruning import smallest
from .settings import AT_LEAST_1, NOT_NEGATIVE, SPARSITY, setting


@dataclass(frozen=True)
class PruneObs(Transform):
    """SparseGPT: per block of columns the floor(sparsity * n) weights of least w^2 / [H^-1]_jj become 0, the
    columns to the right are corrected, and the updated matrix goes on with its mask.

    Use when: many zeros are wanted and Hessians are there: the weights that stay make up for them.

    Source: Frantar and Alistarh 2023, arXiv:2301.00774, Alg. 1 (mask blocks and update blocks of one size).
    Where we differ: pruning is finished before the inner quantizer starts, so it combines with any of them; the
    paper rounds in the same pass.
    """

    sparsity: float = setting(SPARSITY, 0.5)
    damp: float = setting(NOT_NEGATIVE, 0.01)
    block: int = setting(AT_LEAST_1, 128)
    needs_hessian: ClassVar[bool] = True

    def apply(self, source: QuantizerInput, inner: Inner) -> Encoding:
        weight = finite_weight(source)
        factor = factorize(source, "prune_obs", self.damp, act_order=False)
        W_T = ordered_transpose(weight, factor, slice(None))
        keep_T = self._prune_(W_T, None if source.keep is None else source.keep.T, factor)
        return inner(replace(source, weight=np.ascontiguousarray(W_T.T), keep=np.ascontiguousarray(keep_T.T)))

    def _prune_(self, W_T: Matrix, keep_T: NDArray[np.bool_] | None, factor: Factor) -> NDArray[np.bool_]:
        """The mask, (cols, rows); W_T becomes the updated weights with zeros outside it."""
        kept = np.ones(W_T.shape, dtype=np.bool_)
        for block in feedback_blocks(W_T, factor, self.block):
            columns = slice(block.start, block.stop)
            scores = np.square(block.weights / factor.d[columns, None].astype(np.float32))
            if keep_T is not None:
                scores[~keep_T[columns]] = -1.0  # already pruned: these go first
            pruned = smallest(scores.reshape(-1), int(self.sparsity * scores.size)).reshape(scores.shape)
            if keep_T is not None:
                pruned |= ~keep_T[columns]
            kept[columns] = ~pruned
            for step, w, error in block.columns():
                np.multiply(w, pruned[step - block.start], out=error)
                w -= error
        return kept
