"""The flags that name a recipe, and how their values are read: text, @FILE, a .toml or .txt file, a preset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..flag_group import flag, flag_group
from .numbers import WholeNumber

if TYPE_CHECKING:
    from pgpack.recipe.recipe import Recipe
    from pgpack.recipe.selector import Shapes

DIRECTIVES = ("@container=", "@calib=", "@order=", "@drift=", "@tune=", "@compensate=")
RECIPE_SUFFIXES = (".toml", ".txt", ".recipe")


@dataclass(frozen=True)
class RecipeFlags:
    """The values of the flags; None where one was not given."""

    recipe: str | None = flag(
        "--recipe", metavar="TEXT|FILE", help="A recipe as text, @FILE, or a .toml or .txt file of one."
    )
    preset: str | None = flag(
        "--preset",
        metavar="NAME[:DIAL]",
        help="A packer of the field, its dial elsewhere if given; an unknown name lists them all.",
    )
    passthrough: int | None = flag(
        "--passthrough",
        type=WholeNumber(0),
        metavar="N",
        help="With --preset: tensors of at most N values stay fp16 (the field's packers: 65536).",
    )

    @property
    def named(self) -> dict[str, str | None]:
        """The flags that name a recipe, for `one_of`."""
        return {"--recipe": self.recipe, "--preset": self.preset}

    @property
    def is_given(self) -> bool:
        return self.recipe is not None or self.preset is not None

    def read(self, tensors: Shapes) -> Recipe:
        """The recipe of --recipe, or of --preset with its rules fitted to `tensors`; one of them is given."""
        if self.recipe is not None:
            if self.passthrough is not None:
                raise click.UsageError("--passthrough belongs to --preset; a recipe says numel<=N=cast(dtype=fp16)")
            return read_recipe(self.recipe)
        from pgpack.recipe.preset_candidates import preset_recipe

        assert self.preset is not None
        name, colon, dial = self.preset.partition(":")
        try:
            value = float(dial) if colon else None
        except ValueError:
            raise click.UsageError(f"--preset NAME:DIAL: {dial!r} is not a number") from None
        return preset_recipe(name, value, self.passthrough, tensors)

    @property
    def is_of_field(self) -> bool:
        """Whether what is written is a container of the field."""
        from pgpack.recipe.presets import preset_text
        from pgpack.recipe.recipe import parse_recipe

        if self.recipe is not None:
            return read_recipe(self.recipe).container.is_field
        return self.preset is not None and parse_recipe(preset_text(self.preset.partition(":")[0])).container.is_field

    def require_own_container(self) -> None:
        """Raises: click.UsageError for a recipe that writes a container of the field; no decoder is made for one."""
        if self.is_of_field:
            flag = "--recipe" if self.recipe is not None else f"--preset {self.preset}"
            raise click.UsageError(
                f"{flag} writes a container of the field, which the "
                "field's script decodes; a submission's decoder is made for pgpack's own format: leave it out "
                "(--budget searches), or give a --recipe without @container"
            )


recipe_options = flag_group(RecipeFlags, "recipe")


def recipe_text(value: str) -> tuple[str, bool]:
    """(text of the recipe, whether it is TOML) that a --recipe value names.

    Raises: click.UsageError when it names a file that cannot be read, or a preset.
    """
    from pgpack.recipe.presets import PRESETS

    if value.strip().partition(":")[0] in PRESETS:
        raise click.UsageError(f"--recipe {value}: that is a preset; give --preset {value.strip()}")
    named = value.startswith("@") and not value.startswith(DIRECTIVES)
    path = Path(value[1:] if named else value)
    if not named and ("=" in value or path.suffix not in RECIPE_SUFFIXES):
        if "=" not in value and os.path.exists(path):
            what = "is a folder; name a file in it" if path.is_dir() else "is a file; to read a recipe in it give it"
            raise click.UsageError(f"--recipe {value}: {path} {what} as --recipe @FILE")
        return value, False
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise click.UsageError(f"--recipe {value}: cannot read {path} ({reason})") from None
    return " ".join(text.split()) if path.suffix != ".toml" else text, path.suffix == ".toml"


def read_recipe(value: str) -> Recipe:
    """The recipe that a --recipe value describes. Raises RecipeError with a caret under the fault."""
    from pgpack.recipe.recipe import parse_recipe, parse_recipe_toml

    text, is_toml = recipe_text(value)
    return parse_recipe_toml(text) if is_toml else parse_recipe(text)


def one_of(given: Mapping[str, Any], at_least_one: bool = True) -> None:
    """Raises: click.UsageError when of `given` (flag -> value) more than one is given, or none if `at_least_one`."""
    n_given = sum(value is not None for value in given.values())
    if n_given > 1 or (at_least_one and not n_given):
        raise click.UsageError(f"give exactly one of {', '.join(given)}")
