"""GPTQ: rounding with error feedback, on the same uniform grid that round-to-nearest uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.tensors.grids import QuantizedTensor, UniformGrid

from .base import Matrix, Quantizer, QuantizerInput
from .feedback import Factor, factorize, feedback_blocks, ordered_transpose
from .inputs import divisors, finite_weight, fp16_values
from .settings import AT_LEAST_1, BITS, DEVIATIONS, GROUP, NOT_NEGATIVE, setting
from .uniform import largest_symbol, std_scales

# Rows do not interact: 1024 of them keep a block's errors and weights (2 x 128 x 1024 x 4 B) in a core's cache.
_ROWS = 1024


@dataclass(frozen=True)
class Gptq(Quantizer):
    """Full GPTQ with SDClip steps: each column is rounded, its error moved to the columns still to come.

    Use when: calibration has Hessians but no Fisher weights, or the field's int6 under a byte codec is wanted.

    Steps are clip * std / R per row (`group` 0) or per group of columns in their original order, taken from the
    weights before the loop (static groups), so activation order and groups combine freely. Weights outside `keep`
    decode to 0 and hand their whole value on as error: after a pruning transform this compensates the pruning.
    Source: Frantar et al. 2022, arXiv:2210.17323, Alg. 1; constants as in openai/parameter-golf PR #1394.
    Where we differ: see `pgpack.quantizers.feedback.factorize`; columns that never fired quantize to 0.
    """

    bits: int = setting(BITS, 6)
    clip: float = setting(DEVIATIONS, 12.85)
    group: int = setting(GROUP, 0)
    damp: float = setting(NOT_NEGATIVE, 0.01)
    block: int = setting(AT_LEAST_1, 128)
    act_order: bool = True
    needs_hessian: ClassVar[bool] = True

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = finite_weight(source)
        scales = fp16_values(source.name, std_scales(weight, self.bits, self.clip, self.group))
        factor = factorize(source, "gptq", self.damp, self.act_order)
        symbols = np.zeros(weight.shape, dtype=np.int8)
        for top in range(0, len(weight), _ROWS):
            rows = slice(top, top + _ROWS)
            keep = None if source.keep is None else source.keep[rows]
            symbols[rows] = self._round_rows(ordered_transpose(weight, factor, rows), scales[rows], keep, factor)
        return QuantizedTensor(symbols, UniformGrid(scales, self.group), weight.shape)

    def _round_rows(
        self, W_T: Matrix, scales: NDArray[np.float16], keep: NDArray[np.bool_] | None, factor: Factor
    ) -> NDArray[np.int8]:
        """Symbols in original column order. Shape: W_T (cols, rows), overwritten; result (rows, cols)."""
        R = np.float32(largest_symbol(self.bits))
        steps = np.ascontiguousarray(scales.T.astype(np.float32))  # (n_groups, rows)
        safe = np.ascontiguousarray(divisors(scales).T)
        symbols = np.empty(W_T.shape, dtype=np.int8)
        q = np.empty(W_T.shape[1], dtype=np.float32)
        for block in feedback_blocks(W_T, factor, self.block):
            for step, w, error in block.columns():
                column = factor.order[step]
                g = column // self.group if self.group else 0
                np.divide(w, safe[g], out=q)
                np.rint(q, out=q)
                np.minimum(q, R, out=q)
                np.maximum(q, -R, out=q)
                if keep is not None:
                    q *= keep[:, column]
                symbols[column] = q
                q *= steps[g]
                np.subtract(w, q, out=error)
        return symbols.T
