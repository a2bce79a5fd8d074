"""What the engine makes of a matrix while that is still being trained.

    W --allocation of the last calibration--> trellis --> levels n, decoded Q = n * step        (every few steps)

Owns an `Allocation` of `pgpack.quantizers.tcq` that is used many times, at any setting of the dial near its own.
Rows that correct each other (`group`) are not foreseen: they move no step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.calibration.calibration import Calibration
from pgpack.calibration.inputs import quantizer_input
from pgpack.errors import RecipeError
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.tcq import EIGHTHS, Allocation, Tcq, Walk
from pgpack.recipe.applied import Applied
from pgpack.tensors.trellis_grid import octaves

Float32 = NDArray[np.float32]
STATES = 8  # of the trellis that is walked while training: its rate is that of larger ones to 1 or 2 %
MOST_TURNED = 4.0  # how far the dial may be turned from where an allocation was made


@dataclass(frozen=True, eq=False)
class Foreseen:
    """A matrix under an allocation that was made with the dial at `step`."""

    made: Allocation
    step: float
    block: int

    @classmethod
    def of(cls, quantizer: Tcq, source: QuantizerInput) -> Foreseen:
        """Raises: as `Tcq.quantize`."""
        walked = dataclasses.replace(quantizer, group=0, states=STATES)
        return cls(walked.allocation(source), quantizer.step, quantizer.block)

    def decide(self, weight: Float32, dial: float) -> NDArray[np.int16]:
        """What the trellis of `weight` chooses with the dial at `dial`: integers 2 symbol + b, in the order of the
        tensor's rows. Shape: weight and result (rows, cols)."""
        made = self._turned(dial)
        path, levels = made.grid.path, np.empty(weight.T.shape, np.int16)
        Walk(made, self.block).decide(weight[path], slice(0, len(weight)), levels)
        chosen = np.empty(weight.shape, np.int16)
        chosen[path] = levels.T
        return chosen

    def steps(self, dial: float) -> tuple[Float32, Float32]:
        """Factors of the rows and of the columns, whose product is each weight's step. Shape: (rows,), (cols,)."""
        grid = self._turned(dial).grid
        rows = octaves(grid.rows, EIGHTHS) if grid.rows.size else np.ones(len(self.made.price.excess), np.float32)
        return rows, np.float32(grid.step) * octaves(grid.columns, EIGHTHS)

    def _turned(self, dial: float) -> Allocation:
        turn = min(max(dial / self.step, 1 / MOST_TURNED), MOST_TURNED)
        grid = dataclasses.replace(self.made.grid, step=float(np.float32(self.made.grid.step * turn)))
        price = dataclasses.replace(self.made.price, ridge=self.made.price.ridge * turn**2)
        return dataclasses.replace(self.made, grid=grid, price=price)


def foreseen(applied: Applied, weights: Mapping[str, Float32], calibration: Calibration) -> dict[str, Foreseen]:
    """Every tensor that a recipe gives to the trellis, by name.

    Raises: RecipeError where there is none, or one without a trellis; CalibrationError where one has no Hessian.
    """
    found = {}
    for name, tensor in applied.tensors.items():
        quantizer = tensor.policy.quantizer
        if not isinstance(quantizer, Tcq):
            continue
        if quantizer.states == 1 or tensor.policy.transforms:
            raise RecipeError(f"{name}: training for the packer knows tcq alone, with 4 states or more")
        found[name] = Foreseen.of(quantizer, quantizer_input(tensor, weights[name], calibration))
    if not found:
        raise RecipeError("no tensor of this recipe is coded by tcq; give one that is, or a budget such as 480kB")
    return found
