"""Ternary and binary weights: sign times the mean magnitude of a group, on the uniform grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.tensors.grids import QuantizedTensor, UniformGrid

from .base import Matrix, Quantizer, QuantizerInput
from .inputs import by_group, fp16_values, masked_weight, refuse_mask, round_to_grid
from .settings import GROUP, setting


def mean_magnitudes(weight: Matrix, group: int, keep: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Mean |w| of the kept weights of each row and group. Shape: (out, n_groups)."""

    def mean(columns: Matrix, where: slice) -> NDArray[np.float32]:
        total = np.abs(columns).sum(axis=1, dtype=np.float64)
        kept = np.full(len(weight), columns.shape[1]) if keep is None else keep[:, where].sum(axis=1)
        means: NDArray[np.float32] = (total / np.maximum(kept, 1)).astype(np.float32)
        return means

    return by_group(weight, group, mean)


@dataclass(frozen=True)
class Ternary(Quantizer):
    """-1, 0 or 1 times the mean |w| of each group: a weight below half the mean becomes 0.

    Use when: a model was trained to have ternary weights.

    Source: Ma et al. 2024, arXiv:2402.17764, Eq. 1 to 3; groups as in openai/parameter-golf PR #640.
    Where we differ: the last group of a row is averaged over its own columns, not over padding.
    """

    group: int = setting(GROUP, 128)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = masked_weight(source)
        scales = fp16_values(source.name, mean_magnitudes(weight, self.group, source.keep))
        return round_to_grid(weight, scales, self.group, (-1, 1), source.keep)


@dataclass(frozen=True)
class Binary(Quantizer):
    """The sign of each weight (0 counts as positive) times the mean |w| of its group: the least-squares scale.

    Use when: a model was trained to have binary weights.

    Raises: RecipeError after pruning, because no symbol decodes to 0.
    Source: Rastegari et al. 2016, arXiv:1603.05279, Eq. 6.
    """

    group: int = setting(GROUP, 128)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        refuse_mask(source, "binary has no symbol for 0 and cannot follow pruning; use ternary instead")
        weight = masked_weight(source)
        scales = fp16_values(source.name, mean_magnitudes(weight, self.group, None))
        symbols = np.where(weight < 0, np.int8(-1), np.int8(1))
        return QuantizedTensor(symbols, UniformGrid(scales, self.group), weight.shape)
