"""The packed model as it would be now, without packing: its weights, its bytes, and how weights answer its rate.

    weights, calibration --settle--> steps of every matrix
    weights --decide--> bytes of the file, the slope of what is paid for them, Newton's step down it

Owns the dial while a model is trained for a packer. At a step s of the dial the packer pays s^2 / 4 nats per token
for a nat of rate, everywhere; that is the price here too. A budget turns the dial a little with every decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pgpack.calibration.calibration import Calibration
from pgpack.recipe.selector import Shapes
from pgpack.tensors.raw_values import RAW_DTYPES

from .foreseen import Float32, Foreseen, foreseen
from .rate import Levels, Rate, entropy, rate_of
from .target import PackerTarget

Found = TypeVar("Found")
LN2 = math.log(2)
HEADER, OF_TENSOR = 200, 18  # bytes of a file beside what is coded, and of each tensor's entry there
OF_ARRAY = 4  # bytes that exponents take beside their entropy
MOST_TURN = 0.5  # octaves of the dial in one decision
NEAR = 0.002  # of a budget
FIRST_TURNS = 16


@dataclass(frozen=True, eq=False)
class Decision:
    """What the engine makes of weights at a moment. `slopes`: by name, derivative of what is paid for the rate by the
    weights, nats per token; `moves`: Newton's steps, which go down it as far as the loss that they cost allows, by
    the curvature that the engine's steps stand for; `n_bytes`: of the whole file."""

    moves: Mapping[str, Float32]
    slopes: Mapping[str, Float32]
    n_bytes: float


class Outlook:
    """A target on a model's tensors. `settle` comes before everything else. `threads`: matrices decided at a time; no
    bit depends on it."""

    def __init__(self, target: PackerTarget, shapes: Shapes, threads: int = 1) -> None:
        self.target, self.shapes, self.threads = target, shapes, threads
        self.dial = self.settled_at = target.dial
        self.matrices: dict[str, Foreseen] = {}

    def settle(self, weights: Mapping[str, Float32], calibration: Calibration) -> None:
        """Take the steps from a calibration, at the dial as it is.

        Raises: RecipeError, CalibrationError as `pgpack.refine.foreseen.foreseen`.
        """
        self.settled_at = self.dial
        self.matrices = foreseen(self.target.at(self.dial).applied(self.shapes), weights, calibration)

    def begin(self, weights: Mapping[str, Float32], calibration: Calibration) -> None:
        """`settle`, with the dial turned to the budget first, if there is one."""
        self.settle(weights, calibration)
        for _ in range(FIRST_TURNS if self.target.budget else 0):
            _, n_bytes = self._rate(weights)
            self._turn(n_bytes)
            self.settle(weights, calibration)
            if abs(n_bytes - (self.target.budget or 0)) < NEAR * n_bytes:
                break

    def decide(self, weights: Mapping[str, Float32]) -> Decision:
        """The trellis of all matrices as they are; a budget then turns the dial towards itself."""
        levels = self._levels(weights)
        rate = rate_of(levels)

        def answer(name: str) -> tuple[Float32, Float32]:
            matrix = self.matrices[name]
            rows, columns = matrix.steps(self.dial)
            step = np.outer(rows, columns)
            slope = rate.slope(name, levels[name].astype(np.float32)) * np.float32(self.price / 8) / step
            per_curvature = np.square(step / np.float32(self.dial))  # an error of e costs (e dial / step)^2 / 2
            return -slope * per_curvature, slope

        n_bytes = self.file_bytes(rate)
        answers = self._of_each(answer)
        moves = {name: move for name, (move, _) in answers.items()}
        slopes = {name: slope for name, (_, slope) in answers.items()}
        self._turn(n_bytes)
        return Decision(moves, slopes, n_bytes)

    def file_bytes(self, rate: Rate) -> float:
        """Bytes of the file whose matrices have this rate: exponents of steps, raw tensors and header added."""
        grids = [matrix.made.grid for matrix in self.matrices.values()]
        exponents = sum(entropy(part) / 8 + OF_ARRAY for grid in grids for part in (grid.rows, grid.columns))
        raw = 0
        for name, tensor in self.target.applied(self.shapes).tensors.items():
            if name not in self.matrices:
                dtype = getattr(tensor.policy.quantizer, "dtype", "fp32")
                raw += tensor.numel * np.dtype(RAW_DTYPES[dtype]).itemsize
        return rate.n_bytes + exponents + raw + HEADER + OF_TENSOR * len(self.shapes)

    @property
    def price(self) -> float:
        """Nats per token that a byte is worth at the dial."""
        return self.dial**2 / 4 * 8 * LN2

    def _rate(self, weights: Mapping[str, Float32]) -> tuple[Rate, float]:
        rate = rate_of(self._levels(weights))
        return rate, self.file_bytes(rate)

    def _levels(self, weights: Mapping[str, Float32]) -> dict[str, Levels]:
        return self._of_each(lambda name: self.matrices[name].decide(weights[name], self.dial))

    def _of_each(self, work: Callable[[str], Found]) -> dict[str, Found]:
        """What `work` makes of every matrix, by name."""
        with ThreadPoolExecutor(self.threads) as pool:
            return dict(zip(self.matrices, pool.map(work, self.matrices), strict=True))

    def _turn(self, n_bytes: float) -> None:
        """Towards the budget: bytes fall by half with an octave or two of the dial."""
        if self.target.budget is not None:
            turn = math.log2(n_bytes / self.target.budget)
            self.dial *= 2 ** min(max(turn, -MOST_TURN), MOST_TURN)
