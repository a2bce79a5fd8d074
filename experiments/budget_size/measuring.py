"""Models of many sizes, each trained on as many tokens, packed to the same budgets: what the law is fitted to.

    Shape, tokens --pgtrain--> checkpoint --trellis, dial turned to each budget--> files --held-out text--> one Row

A checkpoint that is there is not trained again; what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.replication.packing import Bench
from experiments.replication.plan import Run
from experiments.replication.training import train_runs
from pgpack.errors import BudgetExceeded
from pgpack.fit.budget import TRELLIS_RANGE, Family, engine_recipe, turn_dial
from pgpack.fit.effort import Effort
from pgpack.text.text_folder import TextFolder
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import count_parameters
from pgtrain.presets import PRESETS

EFFORT = Effort(tokens=8192, states=8)
FILL = 0.97  # of a budget; a row says what its file takes
FIRST_DIAL = 4e-3
BITS = (0.2, 8.0)  # by parameter: budgets that leave a model less or more say nothing of a choice


@dataclass(frozen=True)
class Shape:
    """Blocks and width of a model; the rest is the demo's."""

    layers: int
    dim: int

    def model(self, vocab_size: int) -> GPTConfig:
        return dataclasses.replace(
            PRESETS["demo"].model, vocab_size=vocab_size, num_layers=self.layers, model_dim=self.dim
        )


@dataclass(frozen=True)
class Plan:
    """One model: its shape, the tokens that it is trained on, its seed."""

    shape: Shape
    n_tokens: int
    seed: int


@dataclass(frozen=True)
class Packed:
    """A file of a model. `bits`: of the whole file, by parameter. Units: bytes, bits per byte, nats (`kl`)."""

    budget: int
    n_bytes: int
    bits: float
    bpb: float
    kl: float
    dial: float


@dataclass(frozen=True)
class Row:
    """A model and its files. `fp32_bpb`: on the same text."""

    layers: int
    dim: int
    n_params: int
    n_tokens: int
    seed: int
    fp32_bpb: float
    packed: tuple[Packed, ...]

    @classmethod
    def read(cls, stored: dict[str, Any]) -> Row:
        return cls(**{**stored, "packed": tuple(Packed(**each) for each in stored["packed"])})


@dataclass(frozen=True)
class Measuring:
    """`text` that is trained and measured on, batches of `batch_tokens`, `budgets` in bytes; files go to `work`."""

    text: TextFolder
    vocab_size: int
    work: Path
    batch_tokens: int
    budgets: tuple[int, ...]
    max_tokens: int

    def run(self, plan: Plan) -> Run:
        steps = plan.n_tokens // self.batch_tokens
        training = dataclasses.replace(
            PRESETS["demo"].training, steps=steps, batch_tokens=self.batch_tokens, seed=plan.seed,
            warmup_steps=min(20, steps // 4), warmdown_steps=steps * 3 // 5,
        )  # fmt: skip
        name = f"{plan.shape.layers}x{plan.shape.dim}-{plan.n_tokens}"
        return Run(name, plan.seed, plan.shape.model(self.vocab_size), training)

    def row(self, plan: Plan) -> Row:
        """Train if need be, then pack to every budget that is within `BITS`."""
        (path,) = train_runs([self.run(plan)], self.text, self.work, 1)
        bench = Bench(path, self.max_tokens)
        n_params = count_parameters(plan.shape.model(self.vocab_size))
        packed: list[Packed] = []
        for budget in sorted(self.budgets):
            guess = packed[-1].dial / 2 if packed else FIRST_DIAL
            if BITS[0] <= 8 * budget / n_params <= BITS[1]:
                packed += self._packed(bench, budget, n_params, guess)
        shape = plan.shape
        return Row(shape.layers, shape.dim, n_params, plan.n_tokens, plan.seed, bench.fp32_bpb, tuple(packed))

    def _packed(self, bench: Bench, budget: int, n_params: int, guess: float) -> list[Packed]:
        """The file of a budget; none where no step is coarse enough."""
        shapes = bench.checkpoint.stored_shapes
        family = Family(EFFORT.label, lambda step: engine_recipe(EFFORT, step, shapes), *TRELLIS_RANGE, guess)
        try:
            dial, artifact = turn_dial(bench.measurer, budget, family, FILL)
        except BudgetExceeded:
            return []
        loss = bench.measurer.evaluate(artifact)
        assert loss is not None
        assert loss.kl is not None
        bits = 8 * artifact.n_bytes / n_params
        return [Packed(budget, artifact.n_bytes, bits, loss.bpb, loss.kl, dial)]
