"""The flags that name a search space."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
    """The values of the flags that name a space; `axes`: flag -> text as typed."""

    space: str | None = None
    recipe: str | None = None
    preset: str | None = None
    axes: Mapping[str, str] = field(default_factory=dict)
    preset_passthrough: int | None = None

    @property
    def is_default(self) -> bool:
        return self.space is None and self.recipe is None and self.preset is None and not self.axes

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
            limit = "" if self.preset_passthrough is None else f" --passthrough {self.preset_passthrough}"
            return Space(
                preset=self.preset, passthrough=self.preset_passthrough, text=f"--preset {self.preset}{limit}"
            )
        if self.axes:
            typed = shlex.join(word for item in self.axes.items() for word in item)
            return Space(options=_axis_options(self.axes), text=typed)
        return Space()


def axis_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of a space to a command; it receives them as `space: SpaceFlags`."""

    @functools.wraps(function)
    def with_space(*args: Any, **options: Any) -> Any:
        given = {flag: options.pop(f"axis_{name}") for flag, (name, _) in AXIS_FLAGS.items()}
        axes = {flag: text for flag, text in given.items() if text is not None}
        named = {name: options.pop(name) for name in ("space", "recipe", "preset")}
        limit = axes.pop("--passthrough", None) if named["preset"] is not None else None
        if limit is not None and not limit.isdigit():
            raise click.UsageError(f"--passthrough {limit}: with --preset give one whole number")
        flags = SpaceFlags(**named, axes=axes, preset_passthrough=None if limit is None else int(limit))
        return function(*args, space=flags, **options)

    wrapped: Callable[..., Any] = with_space
    for flag, (name, text) in reversed(AXIS_FLAGS.items()):
        wrapped = click.option(flag, f"axis_{name}", metavar="VALUES", help=text)(wrapped)
    wrapped = click.option("--preset", metavar="NAME", help="A packer of the field, over its own dial.")(wrapped)
    wrapped = click.option(
        "--recipe", metavar="TEMPLATE", help="A recipe with {a,b} or {lo:hi:step} wherever something varies."
    )(wrapped)
    return click.option("--space", metavar="FILE", help="Templates, one per line; # starts a comment.")(wrapped)


def _axis_options(axes: Mapping[str, str]) -> SpaceOptions:
    """The axes as typed, flag -> text, as values. Raises: RecipeError."""
    from pgpack.recipe.spaces import SpaceOptions, values_of

    settings: dict[str, tuple[str, ...]] = {}
    for flag, text in axes.items():
        values = values_of(text)
        if flag == "--codebook":
            values = tuple("" if value == "none" else value for value in values)
        settings[AXIS_FLAGS[flag][0]] = values
    return SpaceOptions(**settings)
