"""Trellis-coded quantization inside GPTQ, with water-filled column steps.

    H --factor--> U_jj, F --mean--> f      step_j = step * U_jj / sqrt(f)      one Viterbi pass per column

With error feedback a column's rounding error costs (dL) f * err^2 / U_jj^2, so steps proportional to U_jj / sqrt(f)
make every weight of every tensor cost the same loss and buy the same rate: reverse water-filling with one dial for
the whole model, the common `step`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..grids import QuantizedTensor, TrellisGrid, octaves
from ..trellis import POLYNOMIALS, transitions
from .base import QuantizerInput
from .feedback import Factor, factorize, feedback_blocks, ordered_transpose
from .inputs import finite_weight, require

EIGHTHS = 8


@dataclass(frozen=True)
class Tcq:
    """GPTQ whose columns are quantized by the Viterbi algorithm on an Ungerboeck trellis.

    `step` is the square root of the Lagrangian: the loss (nats per token, doubled) that one quantization error of
    one weight may cost is step^2 / 12 per unit of TCQ's union step. `states`: 4 to 256.
    Source: GPTQ as in `Gptq`; the column steps of WaterSIC (arXiv:2603.04956); TCQ as in `pgpack.trellis`.
    Where we differ: column steps are stored to an eighth of an octave; the tensor's weight comes from its Fisher.
    """

    step: float
    states: int = 8
    damp: float = 0.01
    block: int = 128
    requires_hessian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(0 < self.step < np.inf, "step", "a positive number", self.step)
        require(self.states in POLYNOMIALS, "states", f"one of {', '.join(map(str, POLYNOMIALS))}", self.states)
        require(0 <= self.damp < np.inf, "damp", "a number of at least 0", self.damp)
        require(self.block >= 1, "block", "an integer of at least 1", self.block)

    def quantize(self, source: QuantizerInput) -> QuantizedTensor:
        weight = finite_weight(source)
        factor = factorize(source, "tcq", self.damp, act_order=True)
        grid = self._grid(source, factor)
        symbols = self._symbols(ordered_transpose(weight, factor, slice(None)), grid, factor)
        return QuantizedTensor(symbols, grid, weight.shape)

    def _grid(self, source: QuantizerInput, factor: Factor) -> TrellisGrid:
        if source.fisher is None or not np.isfinite(source.fisher).all():
            raise CalibrationError(f"{source.name}: tcq needs Fisher weights; calibrate with pgpack calibrate")
        mean = float(np.mean(source.fisher, dtype=np.float64))
        wanted = np.empty(len(factor.order))
        wanted[factor.order] = self.step * factor.d / np.sqrt(max(mean, 1e-30))
        middle = float(np.exp(np.mean(np.log(wanted)))) if wanted.size else 1.0
        exponents = np.clip(np.rint(EIGHTHS * np.log2(wanted / middle)), -128, 127).astype(np.int8)
        return TrellisGrid(exponents, np.empty(0, np.int8), float(np.float32(middle)), self.states)

    def _symbols(self, W_T: NDArray[np.float32], grid: TrellisGrid, factor: Factor) -> NDArray[np.int8]:
        from .viterbi import predecessors, trellis_path

        cols, rows = W_T.shape
        steps = np.float32(grid.step) * octaves(grid.columns, EIGHTHS)
        branches = predecessors(transitions(self.states))
        decisions, nearest = np.empty((rows, self.states), np.uint8), np.empty((rows, 4), np.int32)
        path = np.empty(rows, np.float32)
        levels = np.empty((cols, rows), np.int16)
        for block in feedback_blocks(W_T, factor, self.block):
            for at, w, error in block.columns():
                column = factor.order[at]
                trellis_path(w / steps[column], branches, decisions, nearest, path)
                levels[column] = path
                np.subtract(w, path * steps[column], out=error)
        symbols = (levels.T >> 1).astype(np.int16)
        narrow = symbols.astype(np.int8)
        return narrow if np.array_equal(narrow, symbols) else symbols  # type: ignore[return-value]
