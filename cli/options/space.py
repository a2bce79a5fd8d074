"""The flags that name a search space."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..flag_group import flag, flag_group
from .recipe import recipe_text

if TYPE_CHECKING:
    from pgpack.recipe.spaces import SpaceOptions
    from pgpack.sweep.space import Space

# flag -> field of SpaceOptions
AXIS_FLAGS = {
    "--bits": ("bits", "Bits of GPTQ symbols, such as 4,5,6."),
    "--clip-sigmas": ("clip_sigmas", "Clip in row standard deviations, such as 8:16:2."),
    "--embed-bits": ("embed_bits", "Bits of the embedding."),
    "--passthrough": ("passthrough", "Tensors of at most N values stay fp16; with --preset one value."),
    "--codec": ("codecs", "Coders and byte codecs, such as brotli:11,zstd:22,rans."),
    "--prune": ("prune", "Fractions of each matrix to set to 0."),
    "--codebook": ("codebook", "Codebooks instead of GPTQ, such as kmeans:16,nf4; none is GPTQ."),
}
AXES = "axes (--bits, ...)"


@dataclass(frozen=True)
class SpaceFlags:
    """The values of the flags that name a space, as typed; of the axes under the names of SpaceOptions."""

    space: str | None = None
    recipe: str | None = None
    preset: str | None = None
    bits: str | None = None
    clip_sigmas: str | None = None
    embed_bits: str | None = None
    passthrough: str | None = None
    codecs: str | None = None
    prune: str | None = None
    codebook: str | None = None

    def __post_init__(self) -> None:
        if self.preset is not None and self.passthrough is not None and not self.passthrough.isdigit():
            raise click.UsageError(f"--passthrough {self.passthrough}: with --preset give one whole number")

    @property
    def axes(self) -> dict[str, str]:
        """The axes that were given, flag -> text; --passthrough is none where it belongs to --preset."""
        given = {flag: getattr(self, name) for flag, (name, _) in AXIS_FLAGS.items()}
        if self.preset is not None:
            del given["--passthrough"]
        return {flag: text for flag, text in given.items() if text is not None}

    def read(self) -> Space:
        """The space that the flags name. Raises: RecipeError, click.UsageError."""
        from pgpack.sweep.space import Space

        if self.space is not None:
            try:
                text = Path(self.space).read_text(encoding="utf-8")
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
            typed = shlex.join(word for item in self.axes.items() for word in item)
            return Space(options=_axis_options(self.axes), text=typed)
        return Space()


def _axis_options(axes: Mapping[str, str]) -> SpaceOptions:
    """The axes as typed, flag -> text, as values. Raises: RecipeError."""
    from pgpack.recipe.spaces import SpaceOptions, values_of

    settings = {AXIS_FLAGS[flag][0]: values_of(text) for flag, text in axes.items()}
    if "codebook" in settings:
        settings["codebook"] = tuple("" if value == "none" else value for value in settings["codebook"])
    return SpaceOptions(**settings)


space_options = flag_group(
    SpaceFlags,
    "space",
    {
        "space": flag("--space", metavar="FILE", help="Templates, one per line; # starts a comment."),
        "recipe": flag(
            "--recipe", metavar="TEMPLATE", help="A recipe with {a,b} or {lo:hi:step} wherever something varies."
        ),
        "preset": flag("--preset", metavar="NAME", help="A packer of the field, over its own dial."),
        **{name: flag(option, metavar="VALUES", help=text) for option, (name, text) in AXIS_FLAGS.items()},
    },
)
