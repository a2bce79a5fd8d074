"""The flags that search a space instead of measuring all of it, and the search itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .recipe_options import recipe_text
from .space_options import SpaceFlags, axis_space_options, candidates_of

if TYPE_CHECKING:
    from pgpack.recipe import TensorInfo
    from pgpack.sweep.executors import Executor
    from pgpack.sweep.journal import Journal, Study
    from pgpack.sweep.runner import Measurer, OnTrial
    from pgpack.sweep.samplers.base import Batch, Sampler
    from pgpack.sweep.samplers.space import SearchSpace
    from pgpack.sweep.trial import Trial

SEARCHES = ("grid", "random", "tpe", "nsga2", "surrogate", "ladder")


@dataclass(frozen=True)
class SearchFlags:
    """The values of the flags."""

    name: str = "grid"
    trials: int = 40
    seed: int = 0

    @property
    def is_grid(self) -> bool:
        return self.name == "grid"

    def as_text(self) -> str:
        """The flags, for the study's card; '' for a grid."""
        return "" if self.is_grid else f"--search {self.name} --trials {self.trials} --seed {self.seed}"


_OPTIONS = (
    click.option(
        "--search",
        type=click.Choice(SEARCHES),
        default="grid",
        show_default=True,
        help="How the space is gone through.",
    ),
    click.option("--trials", type=click.IntRange(1), default=40, show_default=True, help="Recipes of a search."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of a search's choices."),
)


def search_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command; it receives them as `search: SearchFlags`."""

    @functools.wraps(function)
    def with_flags(*args: Any, search: str, trials: int, seed: int, **options: Any) -> Any:
        return function(*args, search=SearchFlags(search, trials, seed), **options)

    wrapped: Callable[..., Any] = with_flags
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def space_of(flags: SpaceFlags, tensors: Sequence[TensorInfo]) -> SearchSpace:
    """The space that the flags stand for, with a dimension for every list. Raises: RecipeError, click.UsageError."""
    from pgpack.search_space import space_templates
    from pgpack.sweep.samplers.space import SearchSpace, fixed, joint_space, options_template, template_of

    if flags.recipe is not None:
        return SearchSpace((template_of(recipe_text(flags.recipe)[0]),))
    if flags.space is not None:
        try:
            text = Path(flags.space).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise click.UsageError(f"--space {flags.space}: cannot be read ({reason})") from None
        return SearchSpace(tuple(template_of(template) for _, template in space_templates(text)))
    if flags.preset is not None:
        return fixed(candidates_of(flags, tensors))
    if flags.axes:
        return SearchSpace((options_template(axis_space_options(flags.axes), tensors),))
    return joint_space(tensors)


def sampler_of(search: SearchFlags, space: SpaceFlags, tensors: Sequence[TensorInfo], budget: int | None) -> Sampler:
    """The sampler that the flags name. Raises: click.UsageError, RecipeError; ToolMissing without optuna."""
    from pgpack.sweep.samplers.base import RandomSampler

    if search.name == "ladder":
        if not space.is_default:
            raise click.UsageError("--search ladder turns the engine's own dial; it takes no space")
        from pgpack.sweep.samplers.ladder import LadderSampler

        return LadderSampler(tensors, search.trials, budget)
    found = space_of(space, tensors)
    if search.name == "surrogate":
        from pgpack.sweep.samplers.surrogate import SurrogateSampler

        return SurrogateSampler(found, search.trials, search.seed)
    if search.name == "random":
        return RandomSampler(found, search.trials, search.seed)
    from pgpack.sweep.samplers.optuna_samplers import OptunaSampler

    return OptunaSampler(found, search.trials, search.seed, search.name)


@dataclass
class Answers:
    """Answers a sampler's batches: from the rows of a study, else by measuring; `on_trial` is told what is new."""

    measurer: Measurer
    study: Study
    journal: Journal
    executor: Executor
    on_trial: OnTrial

    def __call__(self, batch: Batch) -> list[Trial]:
        from pgpack.sweep.executors import Job, job_key
        from pgpack.sweep.runner import run_sweep

        new = run_sweep(self.measurer, batch.candidates, self.study, self.journal, self.on_trial, self.executor)
        self.study = replace(self.study, trials=(*self.study.trials, *new))
        rows = {trial.key: trial for trial in self.study.trials}
        return [rows[job_key(self.measurer, Job(candidate))] for candidate in batch.candidates]
