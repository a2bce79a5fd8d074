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

from pgpack.recipe.spaces import Candidate
from pgpack.study.trial import Trial

from .space import Point, SearchSpace

LEAST_KL = 1e-9  # nats per token; an unquantized model's KL is 0 and has no logarithm


@dataclass(frozen=True)
class Batch:
    """Recipes to measure on the first `text_share` of the text; no recipes: the search has ended."""

    candidates: tuple[Candidate, ...]
    text_share: float = 1.0


class Sampler(Protocol):
    """Chooses recipes."""

    def ask(self) -> Batch:
        """What to measure next."""
        ...

    def tell(self, trials: Sequence[Trial]) -> None:
        """The rows of the last batch, in its order, failed ones too."""
        ...


Measure = Callable[[Batch], Sequence[Trial]]


def search(sampler: Sampler, measure: Measure) -> None:
    """Ask and tell until the sampler has enough; `measure` gives a row for each recipe of a batch."""
    while (batch := sampler.ask()).candidates:
        sampler.tell(measure(batch))


def objectives(trial: Trial) -> tuple[float, float] | None:
    """Logarithms of bytes and of the loss that trials are ranked by (KL where it is known); None for a failed one."""
    loss = trial.kl if trial.kl is not None else trial.bpb
    if not trial.ok or trial.n_bytes is None or loss is None:
        return None
    return math.log(max(trial.n_bytes, 1)), math.log(max(loss, LEAST_KL))


class RandomSampler:
    """Points drawn with equal chances, no point twice, all in one batch."""

    def __init__(self, space: SearchSpace, n_trials: int, seed: int) -> None:
        self._points: list[Point] = space.sample(n_trials, seed)
        self._space, self._asked = space, False

    def ask(self) -> Batch:
        """All points the first time, then none."""
        points, self._asked = ([] if self._asked else self._points), True
        return Batch(tuple(self._space.candidate(point) for point in points))

    def tell(self, trials: Sequence[Trial]) -> None:
        """Nothing depends on the outcome."""
