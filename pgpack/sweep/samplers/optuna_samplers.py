"""Multi-objective TPE and NSGA-II of Optuna (extra `search`) through ask and tell.

Optuna's study lives in memory and is made again from the journal: with the same seed, told the same rows, it asks for
the same points. Numbers of a dimension are told to it by their rank, so that it knows their order.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from pgpack.errors import ToolMissing
from pgpack.study.frontier import Metric
from pgpack.study.trial import Trial

from .base import Batch, Search, SearchTask, objectives
from .space import Point, SearchSpace

TPE_BATCH = 4
POPULATION = 20
MAX_REPEATS = 40  # asks in a row that bring nothing new before a drawn point is put in


class OptunaSampler:
    """At most `n_trials` different points; `name` is tpe or nsga2. Raises: ToolMissing without optuna."""

    def __init__(self, space: SearchSpace, n_trials: int, seed: int, name: str, metric: Metric | None = None) -> None:
        self._metric = metric
        self._space, self._left = space, min(n_trials, len(space))
        self._size = TPE_BATCH if name == "tpe" else min(POPULATION, max(2, n_trials // 4))
        self._spare = iter(space.sample(len(space) if len(space) < 100_000 else 4 * n_trials, seed))
        self._study = _study(name, seed, self._size)
        self._pending: dict[Point, list[Any]] = {}
        self._known: dict[Point, tuple[float, float] | None] = {}

    @classmethod
    def of(cls, task: SearchTask) -> Search:
        space = task.points()
        sampler = cls(space, task.n_trials, task.seed, task.sampler, task.metric)
        return Search(sampler, min(task.n_trials, len(space)), len(space))

    def ask(self) -> Batch:
        """New points; those that are asked for again are told what is known of them."""
        repeats = 0
        while len(self._pending) < min(self._size, self._left):
            if repeats > MAX_REPEATS:
                seen = {*self._known, *self._pending}
                self._study.enqueue_trial(self._parameters(next(p for p in self._spare if p not in seen)))
                repeats = 0
            trial = self._study.ask()
            point = self._point(trial)
            repeats += point in self._known or point in self._pending
            if point in self._known:
                self._tell(trial, self._known[point])
            else:
                self._pending.setdefault(point, []).append(trial)
        self._left -= len(self._pending)
        return Batch(tuple(self._space.candidate(point) for point in self._pending))

    def tell(self, trials: Sequence[Trial]) -> None:
        for (point, asked), measured in zip(self._pending.items(), trials, strict=True):
            self._known[point] = objectives(measured, self._metric)
            for trial in asked:
                self._tell(trial, self._known[point])
        self._pending = {}

    def _tell(self, trial: Any, values: tuple[float, float] | None) -> None:
        import optuna

        if values is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, values)

    def _point(self, trial: Any) -> Point:
        templates = self._space.templates
        which = trial.suggest_categorical("template", range(len(templates))) if len(templates) > 1 else 0
        chosen = [which]
        for d, dimension in enumerate(templates[which].dimensions):
            name, last = f"{which}.{d}", len(dimension.values) - 1
            if dimension.positions is None:
                chosen.append(trial.suggest_categorical(name, range(last + 1)))
            else:
                chosen.append(trial.suggest_int(name, 0, last))
        return tuple(chosen)

    def _parameters(self, point: Point) -> dict[str, int]:
        found = {f"{point[0]}.{d}": index for d, index in enumerate(point[1:])}
        return {"template": point[0], **found} if len(self._space.templates) > 1 else found


def _study(name: str, seed: int, population: int) -> Any:
    try:
        import optuna
    except ImportError:
        raise ToolMissing(
            f"--search {name} is Optuna's, which is not installed: pip install 'pgpack[search]', "
            "or take --search surrogate"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: Any = (
            optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
            if name == "tpe"
            else optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
        )
    return optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
