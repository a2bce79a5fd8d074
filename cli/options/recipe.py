"""The flags that name a recipe, and how their values are read: text, @FILE, a .toml or .txt file, a preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pgpack.recipe.recipe import Recipe
    from pgpack.recipe.selector import Shapes

F = TypeVar("F", bound=Callable[..., Any])
DIRECTIVES = ("@container=", "@calib=", "@order=", "@tune=", "@compensate=")
RECIPE_SUFFIXES = (".toml", ".txt", ".recipe")


def recipe_options(function: F) -> F:
    """Add `--recipe`, `--preset` and `--passthrough`."""
    for option in (
        click.option(
            "--passthrough",
            type=click.IntRange(0),
            metavar="N",
            help="With --preset: tensors of at most N values stay fp16 (the field's packers: 65536).",
        ),
        click.option(
            "--preset",
            metavar="NAME[:DIAL]",
            help="A packer of the field, its dial elsewhere if given; an unknown name lists them all.",
        ),
        click.option(
            "--recipe", metavar="TEXT|FILE", help="A recipe as text, @FILE, or a .toml or .txt file of one."
        ),
    ):
        function = option(function)
    return function


def recipe_text(value: str) -> tuple[str, bool]:
    """(text of the recipe, whether it is TOML) that a --recipe value names.

    Raises: click.UsageError when it names a file that cannot be read.
    """
    named = value.startswith("@") and not value.startswith(DIRECTIVES)
    path = Path(value[1:] if named else value)
    if not named and ("=" in value or path.suffix not in RECIPE_SUFFIXES):
        return value, False
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise click.UsageError(f"--recipe {value}: cannot read {path} ({reason})") from None
    return " ".join(text.split()) if path.suffix != ".toml" else text, path.suffix == ".toml"


def read_recipe(value: str) -> Recipe:
    """The recipe that a --recipe value describes. Raises RecipeError with a caret under the fault."""
    from pgpack.recipe.recipe import parse_recipe, parse_recipe_toml

    text, is_toml = recipe_text(value)
    return parse_recipe_toml(text) if is_toml else parse_recipe(text)


def one_of(given: Mapping[str, Any], at_least_one: bool = True) -> str | None:
    """The one flag of `given` (flag -> value) that was given.

    Raises: click.UsageError when there is more than one, or none although `at_least_one`.
    """
    named = [flag for flag, value in given.items() if value is not None]
    if len(named) > 1 or (at_least_one and not named):
        raise click.UsageError(f"give exactly one of {', '.join(given)}")
    return named[0] if named else None


def chosen_recipe(recipe: str | None, preset: str | None, passthrough: int | None, tensors: Shapes) -> Recipe:
    """The recipe of --recipe, or of --preset with its rules fitted to `tensors`."""
    if recipe is not None:
        if passthrough is not None:
            raise click.UsageError("--passthrough belongs to --preset; a recipe says numel<=N=cast(dtype=fp16)")
        return read_recipe(recipe)
    from pgpack.recipe.preset_candidates import preset_recipe

    assert preset is not None
    name, colon, dial = preset.partition(":")
    return preset_recipe(name, number(dial, "--preset NAME:DIAL") if colon else None, passthrough, tensors)


def require_own_container(recipe: str | None, preset: str | None) -> None:
    """Raises: click.UsageError for a recipe that writes a container of the field; no decoder is made for one."""
    if recipe is None and preset is None:
        return
    chosen = read_recipe(recipe) if recipe is not None else _preset_as_written(preset or "")
    if chosen.container.is_field:
        flag = "--recipe" if recipe is not None else f"--preset {preset}"
        raise click.UsageError(
            f"{flag} writes a container of the field, which the "
            "field's script decodes; a submission's decoder is made for pgpack's own format: leave it out (--budget "
            "searches), or give a --recipe without @container"
        )


def _preset_as_written(preset: str) -> Recipe:
    from pgpack.recipe.presets import preset_text
    from pgpack.recipe.recipe import parse_recipe

    return parse_recipe(preset_text(preset.partition(":")[0]))


def number(text: str, flag: str) -> float:
    """The number in `text`. Raises: click.UsageError naming the flag."""
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"{flag}: {text!r} is not a number") from None
