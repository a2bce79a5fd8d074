"""What a sweep would do, before it does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..options.search import SearchFlags
from ..screen.output import Screen, note

if TYPE_CHECKING:
    from pgpack.recipe.selector import Shapes
    from pgpack.recipe.spaces import Candidate
    from pgpack.sweep.samplers.base import Search
    from pgpack.sweep.space import Space
SHOWN = 5  # recipes of a dry run


def show_dry_run(
    paths: Sequence[Path], space: Space, search: SearchFlags, budget: int | None, screen: Screen
) -> None:
    """The recipes that would be measured, of a search those that it asks for first."""
    from pgpack.checkpoint.files import require_file

    for path in paths:
        require_file(path)
    tensors = _tensors(paths[0])
    head, facts = "", {}
    if search.is_grid:
        candidates: Sequence[Candidate] = space.candidates(tensors)
    else:
        found = search_of(search, space, tensors, budget)
        candidates = found.sampler.ask().candidates
        facts = {"search": search.as_text(), "n_trials": found.n_trials, "n_points": found.n_points}
        among = "" if found.n_points is None else f" in a space of {found.n_points:,}"
        head = f"{search.as_text()}: at most {found.n_trials} trials{among}; it begins with these "
    recipes = [str(each.recipe) for each in candidates]
    document = {"n_recipes": len(candidates), "n_checkpoints": len(paths), "recipes": recipes, **facts}
    lines = [f"{head}{len(candidates)} recipes" + (f" on {len(paths)} checkpoints" if len(paths) > 1 else "")]
    lines += [f"  {each.recipe}" + (f"  ({each.label})" if each.label else "") for each in candidates[:SHOWN]]
    if len(candidates) > SHOWN:
        lines.append(f"  and {len(candidates) - SHOWN} more")
    screen.show(document, *lines)


def search_of(
    flags: SearchFlags, space: Space, tensors: Shapes, budget: int | None, n_windows: int | None = None
) -> Search:
    """The search that the flags name, on a text of `n_windows` (None: not known yet).

    Raises: click.UsageError, RecipeError; ToolMissing without optuna.
    """
    from pgpack.sweep.samplers.base import SearchTask

    if flags.name == "ladder" and not space.is_default:
        raise click.UsageError("--search ladder turns the engine's own dial; it takes no space")
    points = space.points(tensors)
    return SearchTask(flags.name, tensors, flags.trials, flags.seed, points, budget, n_windows).begin()


def _tensors(path: Path) -> Shapes:
    """What recipes are made for; of an old torch file the shapes are not read (that would load torch)."""
    from pgpack.checkpoint.checkpoint import load_checkpoint
    from pgpack.checkpoint.files import opens_without_torch

    if opens_without_torch(path):
        return load_checkpoint(path).stored_shapes
    from pgtrain.model.model_config import GPTConfig
    from pgtrain.model.tensor_table import tensor_shapes

    note("a torch file this old is not read in a dry run; these are the recipes for the baseline GPT")
    return tensor_shapes(GPTConfig())
