"""Search by a model of bytes and loss: two Gaussian processes predict every point, the best promises are measured.

    measured points --fit--> log bytes, log loss of every point --> the points that would add most hypervolume

What a tensor's setting costs in bytes and in loss hardly depends on those of other tensors, so a kernel that adds
up over dimensions needs few points; a product term beside it takes what is left. The first points are each template's
middle, the ends of each of its dimensions, and its two corners.
How much of an exhaustive grid's frontier that finds: `make bench-search`, results/bench-search.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from pgpack.study.frontier import Metric, hypervolume, pareto_indices
from pgpack.study.trial import Trial

from .base import Batch, Search, SearchTask, objectives
from .space import Point, SearchSpace, Template

BATCH = 4
POOL = 4096  # points that are looked at in a larger space
LENGTH = 0.6  # of the kernel, in units of a dimension's extent
UNLIKE = 0.3  # correlation of two values that are no numbers
PRODUCT = 0.1  # weight of the term that does not add up
NOISE = 1e-4
MARGIN = 0.05  # of the corner, beyond the largest size and loss in logarithms
Float64 = NDArray[np.float64]


class SurrogateSampler:
    """At most `n_trials` different points; `seed` draws the pool of a large space."""

    def __init__(self, space: SearchSpace, n_trials: int, seed: int, metric: Metric | None = None) -> None:
        self._space, self._left, self._metric = space, n_trials, metric
        lines = [_first_points(which, template) for which, template in enumerate(space.templates)]
        starts = [point for turn in zip_longest(*lines) for point in turn if point is not None]
        pool = [space.point(i) for i in range(len(space))] if len(space) <= POOL else space.sample(POOL, seed)
        self._pool = list(dict.fromkeys([*starts, *pool]))
        self._starts = list(dict.fromkeys(starts))
        self._batch: list[int] = []
        self._seen: dict[int, tuple[float, float] | None] = {}

    @classmethod
    def of(cls, task: SearchTask) -> Search:
        space = task.points()
        surrogate = cls(space, task.n_trials, task.seed, task.metric)
        return Search(surrogate, min(task.n_trials, len(space)), len(space))

    def ask(self) -> Batch:
        """The first points together, then a few at a time."""
        first = not self._seen
        self._batch = list(range(min(len(self._starts), self._left))) if first else self._promising()
        self._left -= len(self._batch)
        return Batch(tuple(self._space.candidate(self._pool[i]) for i in self._batch))

    def tell(self, trials: Sequence[Trial]) -> None:
        """Takes the outcomes into the model; failed points are not asked for again."""
        for index, trial in zip(self._batch, trials, strict=True):
            self._seen[index] = objectives(trial, self._metric)

    def _promising(self) -> list[int]:
        """The points that add most to the predicted hypervolume, one after the other."""
        known = {i: found for i, found in self._seen.items() if found is not None}
        open_points = [i for i in range(len(self._pool)) if i not in self._seen]
        count = min(BATCH, self._left, len(open_points))
        if count < 1 or not known:
            return open_points[: max(count, 0)]
        points = self._predicted(known)
        usable = [*known, *open_points]
        front = [usable[i] for i in pareto_indices(points[usable])]
        corner = points[front].max(0) + MARGIN
        held, chosen = list(known), list[int]()
        for _ in range(count):
            choices = [i for i in front if i not in held] or [i for i in open_points if i not in held]
            gains = [hypervolume(points[[*held, i]], (corner[0], corner[1])) for i in choices]
            chosen.append(choices[int(np.argmax(gains))])
            held.append(chosen[-1])
        return chosen

    def _predicted(self, known: dict[int, tuple[float, float]]) -> Float64:
        """Log bytes and log loss of every point of the pool; the measured ones as they are. Shape: (n, 2)."""
        places = list(known)
        values = np.array([known[i] for i in places])
        mean, spread = values.mean(0), values.std(0) + 1e-12
        kernel = self._kernel([self._pool[i] for i in places], [self._pool[i] for i in places])
        weights = np.linalg.solve(kernel + NOISE * np.eye(len(places)), (values - mean) / spread)
        found: Float64 = self._kernel(self._pool, [self._pool[i] for i in places]) @ weights * spread + mean
        found[places] = values
        return found

    def _kernel(self, rows: Sequence[Point], columns: Sequence[Point]) -> Float64:
        """Covariances; points of different templates know nothing of each other. Shape: (rows, columns)."""
        kernel = np.zeros((len(rows), len(columns)))
        for which, template in enumerate(self._space.templates):
            at = [i for i, point in enumerate(rows) if point[0] == which]
            to = [i for i, point in enumerate(columns) if point[0] == which]
            if at and to:
                a, b = (np.array([points[i][1:] for i in where]) for points, where in ((rows, at), (columns, to)))
                kernel[np.ix_(at, to)] = _likeness(template, a, b)
        return kernel


def _likeness(template: Template, a: NDArray[np.int64], b: NDArray[np.int64]) -> Float64:
    total, product = np.zeros((len(a), len(b))), np.ones((len(a), len(b)))
    for d, dimension in enumerate(template.dimensions):
        if dimension.positions is None:
            alike = np.where(a[:, d, None] == b[None, :, d], 1.0, UNLIKE)
        else:
            positions = np.array(dimension.positions)
            alike = np.exp(-0.5 * ((positions[a[:, d], None] - positions[b[:, d]][None]) / LENGTH) ** 2)
        total += alike
        product *= alike
    mean: Float64 = total / max(1, len(template.dimensions)) + PRODUCT * product
    return mean


def _first_points(which: int, template: Template) -> list[Point]:
    lasts = [len(dimension.values) - 1 for dimension in template.dimensions]
    middle = [last // 2 for last in lasts]
    points = [middle, [0] * len(lasts), lasts]
    for d, dimension in enumerate(template.dimensions):
        ends = (0, lasts[d]) if dimension.positions is not None else range(lasts[d] + 1)
        points += [[*middle[:d], end, *middle[d + 1 :]] for end in ends]
    return list(dict.fromkeys((which, *point) for point in points))
