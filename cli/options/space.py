"""The flags that name a search space."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..flag_group import flag, flag_group
from ..lazy import SingleOption
from .recipe import recipe_text

if TYPE_CHECKING:
    from pgpack.recipe.spaces import SpaceOptions
    from pgpack.sweep.space import Space

AXES = "axes (--bits, ...)"
axis = partial(flag, metavar="VALUES")


@dataclass(frozen=True)
class SpaceFlags:
    """The values of the flags that name a space, as typed; of the axes under the names of SpaceOptions."""

    space: str | None = flag("--space", metavar="FILE", help="Templates, one per line; # starts a comment.")
    recipe: str | None = flag(
        "--recipe",
        cls=SingleOption,
        instead=", or put the templates into a file, one per line: --space FILE",
        metavar="TEMPLATE",
        help="A recipe with {a,b} or {lo:hi:step} wherever something varies.",
    )
    preset: str | None = flag("--preset", metavar="NAME", help="A packer of the field, over its own dial.")
    bits: str | None = axis("--bits", help="Bits of GPTQ symbols, such as 4,5,6.")
    clip_sigmas: str | None = axis(
        "--clip-sigmas", help="Clip in row standard deviations, such as 8:16:2; of the embedding 1.5 times that."
    )
    embed_bits: str | None = axis("--embed-bits", help="Bits of the embedding.")
    passthrough: str | None = axis(
        "--passthrough", help="Tensors of at most N values stay fp16; with --preset one value."
    )
    codecs: str | None = axis("--codec", help="Coders and byte codecs, such as brotli:11,zstd:22,rans.")
    prune: str | None = axis("--prune", help="Fractions of each matrix to set to 0.")
    codebook: str | None = axis("--codebook", help="Codebooks instead of GPTQ, such as kmeans:16,nf4; none is GPTQ.")

    def __post_init__(self) -> None:
        if self.preset is not None and self.passthrough is not None and not self.passthrough.isdigit():
            raise click.UsageError(f"--passthrough {self.passthrough}: with --preset give one whole number")

    @property
    def axes(self) -> dict[str, str]:
        """The axes that were given, name -> text; --passthrough is none where it belongs to --preset."""
        others = {"space", "recipe", "preset", *(["passthrough"] if self.preset is not None else [])}
        return {name: text for name, text in vars(self).items() if text is not None and name not in others}

    def read(self) -> Space:
        """The space that the flags name. Raises: RecipeError, click.UsageError."""
        from pgpack.sweep.space import Space

        if self.space is not None:
            try:
                text = Path(self.space).read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise click.UsageError(f"--space {self.space}: cannot be read ({reason})") from None
            return Space(templates=text, text=text)
        if self.recipe is not None:
            text = recipe_text(self.recipe)[0]
            return Space(template=text, text=text)
        if self.preset is not None:
            limit = None if self.passthrough is None else int(self.passthrough)
            said = f"--preset {self.preset}" + ("" if limit is None else f" --passthrough {limit}")
            return Space(preset=self.preset, passthrough=limit, text=said)
        if self.axes:
            flags = {field.name: field.metadata["flag"] for field in fields(self)}
            typed = shlex.join(word for name, text in self.axes.items() for word in (flags[name], text))
            return Space(options=_axis_options(self.axes), text=typed)
        return Space()


def remembered_space(text: str) -> Space:
    """The space that a study's card tells. Raises: RecipeError."""
    from pgpack.sweep.space import Space

    if text in ("", Space().text):
        return Space()
    if not text.startswith("--"):
        return Space(templates=text, text=text)
    words = shlex.split(text)
    names = {field.metadata["flag"]: field.name for field in fields(SpaceFlags)}
    return SpaceFlags(**{names[word]: value for word, value in zip(words[::2], words[1::2], strict=True)}).read()


def _axis_options(axes: Mapping[str, str]) -> SpaceOptions:
    """The axes as typed, name -> text, as values. Raises: click.UsageError, naming the flag, for one that is none."""
    from pgpack.errors import RecipeError
    from pgpack.recipe.spaces import SpaceOptions, option_recipe, values_of

    names = {field.name: field.metadata["flag"] for field in fields(SpaceFlags)}
    settings: dict[str, tuple[str, ...]] = {}
    for name, text in axes.items():
        try:
            values = values_of(text)
            settings[name] = tuple("" if name == "codebook" and value == "none" else value for value in values)
            for value in settings[name]:
                usual = {axis: each[0] for axis, each in SpaceOptions().axes().items()}
                option_recipe(*(usual | {"codec" if name == "codecs" else name: value}).values())
        except (RecipeError, ValueError) as error:
            why = str(error).partition("\n")[0]
            raise click.UsageError(f"{names[name]} {text}: {why}") from None
    return SpaceOptions(**settings)


space_options = flag_group(SpaceFlags, "space")
