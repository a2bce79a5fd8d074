"""Successive halving on growing text: many recipes on a little text, the better part of them on more.

    N recipes on 1/16 --the best third--> 1/4 --the best third--> all of the text

Better means: a front that fewer others dominate in (bytes, loss), and within a front the less crowded. Losses are
compared within a rung only, on the same text.
Source: Jamieson and Talwalkar 2016, arXiv:1502.07943; ranks and crowding of Deb et al. 2002 (NSGA-II). Where we
differ: a budget is text, not training steps, and of each rung a third is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pgpack.recipe.spaces import Candidate
from pgpack.study.frontier import Metric, pareto_indices
from pgpack.study.trial import Trial

from .base import Batch, Search, SearchTask, objectives
from .space import SearchSpace

SHARES = (1 / 16, 1 / 4, 1.0)
KEPT = 1 / 3
LEAST_WINDOWS = 8  # of a rung; fewer say too little


def rungs(n_windows: int) -> tuple[float, ...]:
    """The shares of a text of so many windows that are long enough; the last one is always 1."""
    return tuple(share for share in SHARES if share == 1 or share * n_windows >= LEAST_WINDOWS)


class HalvingSampler:
    """Begins with `n_trials` points of the space, drawn by `seed`."""

    def __init__(
        self,
        space: SearchSpace,
        n_trials: int,
        seed: int,
        shares: Sequence[float] = SHARES,
        metric: Metric | None = None,
    ) -> None:
        self._left: list[Candidate] = [space.candidate(point) for point in space.sample(n_trials, seed)]
        self._shares, self._metric = list(shares), metric

    @classmethod
    def of(cls, task: SearchTask) -> Search:
        """As `Sampler.of`; on a text that is not known yet, with all rungs."""
        space = task.points()
        shares = SHARES if task.n_windows is None else rungs(task.n_windows)
        halving = cls(space, task.n_trials, task.seed, shares, task.metric)
        return Search(halving, halving.n_trials, len(space))

    @property
    def n_trials(self) -> int:
        sizes, n_left = [], len(self._left)
        for _ in self._shares:
            sizes.append(n_left)
            n_left = math.ceil(KEPT * n_left)
        return sum(sizes)

    def ask(self) -> Batch:
        """What is left, on the next longer text."""
        return Batch(tuple(self._left), self._shares[0]) if self._shares else Batch(())

    def tell(self, trials: Sequence[Trial]) -> None:
        self._shares.pop(0)
        scored = [
            (i, found) for i, trial in enumerate(trials) if (found := objectives(trial, self._metric)) is not None
        ]
        points = np.array([found for _, found in scored]).reshape(-1, 2)
        chosen = select(points, math.ceil(KEPT * len(self._left)))
        self._left = [self._left[i] for i in sorted(scored[index][0] for index in chosen)]


def select(points: NDArray[np.float64], count: int) -> list[int]:
    """Indices of the `count` best points, all where there are fewer. Shape: (n, 2), both columns minimised."""
    left = list(range(len(points)))
    chosen: list[int] = []
    while left and len(chosen) < count:
        front = [left[i] for i in pareto_indices(points[left])]
        room = count - len(chosen)
        if len(front) > room:
            distances = crowding(points[front])
            order = sorted(range(len(front)), key=lambda i: -distances[i])
            front = [front[i] for i in order[:room]]
        chosen += front
        left = [i for i in left if i not in set(front)]
    return chosen


def crowding(front: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the neighbours of each point of a front lie apart, as shares of the front's extent; infinite at its
    ends. Shape: (n, 2) -> (n,)."""
    distances = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = math.inf
        if extent > 0:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return distances
