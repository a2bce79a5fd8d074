"""The flags that search a space instead of measuring all of it, and the search itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .group import flag, flag_group
from .recipe import recipe_text
from .space import SpaceFlags, axis_space_options, candidates_of

if TYPE_CHECKING:
    from pgpack.recipe.selector import TensorInfo
    from pgpack.study.journal import Journal
    from pgpack.study.study import Study
    from pgpack.study.trial import Trial
    from pgpack.sweep.executors.jobs import Executor
    from pgpack.sweep.pace import Pace
    from pgpack.sweep.runner import OnTrial
    from pgpack.sweep.samplers.base import Batch, Sampler
    from pgpack.sweep.samplers.space import SearchSpace

    from ..verbs.sweep_benches import Benches

SEARCHES = ("grid", "random", "halving", "tpe", "nsga2", "surrogate", "ladder")


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


search_options = flag_group(
    SearchFlags,
    "search",
    {
        "name": flag(
            "--search",
            type=click.Choice(SEARCHES),
            default="grid",
            show_default=True,
            help="How the space is gone through.",
        ),
        "trials": flag(
            "--trials",
            type=click.IntRange(1),
            default=40,
            show_default=True,
            help="Recipes of a search; halving begins with so many.",
        ),
        "seed": flag("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of a search's choices."),
    },
)


def space_of(flags: SpaceFlags, tensors: Sequence[TensorInfo]) -> SearchSpace:
    """The space that the flags stand for, with a dimension for every list. Raises: RecipeError, click.UsageError."""
    from pgpack.recipe.spaces import space_templates
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


@dataclass(frozen=True)
class Search:
    """A sampler and how many trials it asks for at most; `n_points`: recipes in its space, None for a dial."""

    sampler: Sampler
    n_trials: int
    n_points: int | None


def search_of(
    search: SearchFlags, space: SpaceFlags, tensors: Sequence[TensorInfo], budget: int | None, n_windows: int | None
) -> Search:
    """The search that the flags name, on a text of `n_windows` (None: not known yet).

    Raises: click.UsageError, RecipeError; ToolMissing without optuna.
    """
    if search.name == "ladder":
        if not space.is_default:
            raise click.UsageError("--search ladder turns the engine's own dial; it takes no space")
        from pgpack.sweep.samplers.ladder import LadderSampler

        return Search(LadderSampler(tensors, search.trials, budget), search.trials, None)
    found = space_of(space, tensors)
    n_trials = min(search.trials, len(found))
    if search.name == "halving":
        from pgpack.sweep.samplers.halving import SHARES, HalvingSampler, rungs

        shares = SHARES if n_windows is None else rungs(n_windows)
        halving = HalvingSampler(found, search.trials, search.seed, shares)
        return Search(halving, halving.n_trials, len(found))
    return Search(_sampler(search, found), n_trials, len(found))


def _sampler(search: SearchFlags, found: SearchSpace) -> Sampler:
    if search.name == "surrogate":
        from pgpack.sweep.samplers.surrogate import SurrogateSampler

        return SurrogateSampler(found, search.trials, search.seed)
    if search.name == "random":
        from pgpack.sweep.samplers.base import RandomSampler

        return RandomSampler(found, search.trials, search.seed)
    from pgpack.sweep.samplers.optuna_samplers import OptunaSampler

    return OptunaSampler(found, search.trials, search.seed, search.name)


def rows_of(benches: Benches, batch: Batch, study: Study) -> list[Trial] | None:
    """What the study knows of a batch: for each recipe the row that stands for its rows on all checkpoints; None
    when a row is missing."""
    from pgpack.study.seeds import together
    from pgpack.sweep.executors.jobs import Job, job_key

    rows = {trial.key: trial for trial in (*study.trials, *study.partial)}
    settings, found = benches.settings(batch.text_share), []
    for candidate in batch.candidates:
        keys = [job_key(benches(setting), Job(candidate, setting)) for setting in settings]
        if not rows.keys() >= set(keys):
            return None
        found.append(together([rows[key] for key in keys], study.meta.block_bytes))
    return found


@dataclass
class Answers:
    """Answers a sampler's batches: from the rows of a study, else by measuring; `on_trial` is told what is new."""

    benches: Benches
    study: Study
    journal: Journal
    executor: Executor
    pace: Pace
    on_trial: OnTrial

    def __call__(self, batch: Batch) -> list[Trial]:
        from pgpack.sweep.runner import jobs_of, new_jobs, record

        jobs = jobs_of(batch.candidates, self.benches.settings(batch.text_share))
        new = list(new_jobs(self.benches, jobs, self.study))
        self.pace.expect(new, n_spared=len(jobs) - len(new))
        self.study = self.study.with_rows(record(self.executor, new, self.journal, self.on_trial))
        answers = rows_of(self.benches, batch, self.study)
        assert answers is not None
        return answers
