"""The engine's own ladder: one Lagrangian for the whole model, climbed and then refined where the frontier is coarse.

    step = 2e-5 ... 1.25e-3 (square root of nats per token) --> the largest gap (log bytes x log loss) is halved

With a budget every second point halves the gap that holds it. `pgpack.recipe.dials.trellis_recipe` makes the recipes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from pgpack.errors import RecipeError
from pgpack.recipe.dials import trellis_recipe
from pgpack.recipe.selector import Shapes
from pgpack.recipe.spaces import STATES, Candidate
from pgpack.study.frontier import Metric
from pgpack.study.trial import Trial

from .base import Batch, Search, SearchTask, objectives

FIRST = (2e-5, 5.6e-5, 1.6e-4, 4.5e-4, 1.25e-3)
NARROW = 1.01  # neighbours on the ladder that are closer are not parted


class LadderSampler:
    """At most `n_trials` rungs. Units: `budget` bytes."""

    def __init__(
        self, tensors: Shapes, n_trials: int, budget: int | None = None, metric: Metric | None = None
    ) -> None:
        self._tensors, self._left, self._budget = tensors, n_trials, budget
        self._metric = metric
        self._asked: list[float] = []
        self._known: dict[float, tuple[float, float] | None] = {}

    @classmethod
    def of(cls, task: SearchTask) -> Search:
        """As `Sampler.of`. Raises: RecipeError when a space is named."""
        if task.space is not None:
            raise RecipeError("the ladder turns the engine's own dial; it takes no space")
        return Search(cls(task.tensors, task.n_trials, task.budget, task.metric), task.n_trials, None)

    def ask(self) -> Batch:
        """The first rungs together, then one in between."""
        rungs = list(FIRST) if not self._known else self._next()
        self._asked = rungs[: self._left]
        self._left -= len(self._asked)
        return Batch(tuple(Candidate(trellis_recipe(step, STATES, self._tensors)) for step in self._asked))

    def tell(self, trials: Sequence[Trial]) -> None:
        self._known |= {
            step: objectives(trial, self._metric) for step, trial in zip(self._asked, trials, strict=True)
        }

    def _next(self) -> list[float]:
        known = sorted((step, found) for step, found in self._known.items() if found is not None)
        gaps = [(a, b) for a, b in itertools.pairwise(known) if b[0] > NARROW * a[0]]
        if self._budget is not None and len(self._known) % 2 == 0:
            size = math.log(self._budget)
            gaps = [(a, b) for a, b in gaps if b[1][0] <= size <= a[1][0]] or gaps
        if not gaps:
            return []
        low, high = max(gaps, key=lambda gap: abs((gap[0][1][0] - gap[1][1][0]) * (gap[0][1][1] - gap[1][1][1])))
        middle = float(f"{math.sqrt(low[0] * high[0]):.3g}")
        return [middle] if middle not in self._known else []
