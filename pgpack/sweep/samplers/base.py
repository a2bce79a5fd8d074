"""The interface of samplers, and what all of them need to know of a trial.

    ask() -> recipes --somebody measures--> tell(trials, in the order of the recipes) ... until ask() gives none

A sampler is a function of its seed and of what it is told, nothing else: asked again from the beginning and answered
from the journal, it asks for the same recipes. That is how a search goes on after a kill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pgpack.errors import RecipeError
from pgpack.recipe.selector import Shapes
from pgpack.recipe.spaces import Candidate
from pgpack.study.frontier import Metric, default_metric, loss_of
from pgpack.study.trial import Trial

from .space import Point, SearchSpace, joint_space
from .table import SAMPLERS

LEAST_KL = 1e-9  # nats per token; an unquantized model's KL is 0 and has no logarithm


@dataclass(frozen=True)
class Batch:
    """Recipes to measure on the first `text_share` of the text; no recipes: the search has ended."""

    candidates: tuple[Candidate, ...]
    text_share: float = 1.0


@dataclass(frozen=True)
class SearchTask:
    """What a search is made for: at most `n_trials` recipes for `tensors`, chosen with `seed`.

    `sampler`: its name in the table. `space`: None where none was named. `n_windows` of the text that recipes are
    measured on, None where it is not known. `metric`: the loss that trials are ranked by, None for the default one.
    Units: `budget` bytes.
    """

    sampler: str
    tensors: Shapes
    n_trials: int = 40
    seed: int = 0
    space: SearchSpace | None = None
    budget: int | None = None
    n_windows: int | None = None
    metric: Metric | None = None

    def points(self) -> SearchSpace:
        """The space, the engine's own where none was named."""
        return joint_space(self.tensors) if self.space is None else self.space

    def begin(self) -> Search:
        """The search. Raises: RecipeError for an unknown sampler or a space that it does not take; ToolMissing
        without optuna."""
        if self.sampler not in SAMPLERS:
            raise RecipeError(f"unknown sampler {self.sampler!r}; known: {', '.join(SAMPLERS)}")
        search: Search = SAMPLERS[self.sampler].of(self)
        return search


@dataclass(frozen=True)
class Search:
    """A sampler that has not begun and how many trials it asks for at most; `n_points`: recipes in its space, None
    for a dial."""

    sampler: Sampler
    n_trials: int
    n_points: int | None


class Sampler(Protocol):
    """Chooses recipes."""

    @classmethod
    def of(cls, task: SearchTask) -> Search:
        """The search of a task."""

    def ask(self) -> Batch:
        """What to measure next."""

    def tell(self, trials: Sequence[Trial]) -> None:
        """The rows of the last batch, in its order, failed ones too."""


Measure = Callable[[Batch], Sequence[Trial]]


def search(sampler: Sampler, measure: Measure) -> None:
    """Ask and tell until the sampler has enough; `measure` gives a row for each recipe of a batch."""
    while (batch := sampler.ask()).candidates:
        sampler.tell(measure(batch))


def objectives(trial: Trial, metric: Metric | None = None) -> tuple[float, float] | None:
    """Logarithms of bytes and of the loss in `metric`, the axes of a frontier; None for a trial that has not both."""
    loss = loss_of(trial, metric or default_metric([trial]))
    if trial.n_bytes is None or loss is None:
        return None
    return math.log(max(trial.n_bytes, 1)), math.log(max(loss, LEAST_KL))


class RandomSampler:
    """Points drawn with equal chances, no point twice, all in one batch."""

    def __init__(self, space: SearchSpace, n_trials: int, seed: int) -> None:
        self._points: list[Point] = space.sample(n_trials, seed)
        self._space, self._asked = space, False

    @classmethod
    def of(cls, task: SearchTask) -> Search:
        space = task.points()
        return Search(cls(space, task.n_trials, task.seed), min(task.n_trials, len(space)), len(space))

    def ask(self) -> Batch:
        points, self._asked = ([] if self._asked else self._points), True
        return Batch(tuple(self._space.candidate(point) for point in points))

    def tell(self, trials: Sequence[Trial]) -> None:
        """Nothing depends on the outcome."""
