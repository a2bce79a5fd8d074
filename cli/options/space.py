"""The flags that name a search space, and the recipes that they stand for."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .recipe import preset_recipe, recipe_text

if TYPE_CHECKING:
    from pgpack.recipe.selector import TensorInfo
    from pgpack.recipe.spaces import Candidate, SpaceOptions

SMALL_PASSTHROUGH = 4096  # where the field's own 65,536 would leave matrices of a small model unquantized

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

    def as_text(self) -> str:
        """The space as flags (or the text of its file), for the study's card."""
        if self.space is not None:
            return Path(self.space).read_text(encoding="utf-8")
        if self.recipe is not None:
            return recipe_text(self.recipe)[0]
        if self.preset is not None:
            limit = "" if self.preset_passthrough is None else f" --passthrough {self.preset_passthrough}"
            return f"--preset {self.preset}{limit}"
        return shlex.join(word for item in self.axes.items() for word in item) or "the default space"


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


def candidates_of(flags: SpaceFlags, tensors: Sequence[TensorInfo]) -> list[Candidate]:
    """The recipes that the flags stand for. Raises RecipeError, click.UsageError."""
    from pgpack.recipe.spaces import Candidate, default_space, expand, read_space, sorted_by_quantization

    if flags.space is not None:
        try:
            found = read_space(Path(flags.space).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise click.UsageError(f"--space {flags.space}: cannot be read ({reason})") from None
    elif flags.recipe is not None:
        found = [Candidate(recipe) for recipe in expand(recipe_text(flags.recipe)[0])]
    elif flags.preset is not None:
        return preset_curve(flags.preset, flags.preset_passthrough, tensors)
    elif flags.axes:
        return axis_space_options(flags.axes).candidates(tensors)
    else:
        return default_space(tensors, field_presets(tensors))
    return sorted_by_quantization(found)


def axis_space_options(axes: Mapping[str, str]) -> SpaceOptions:
    """The axes as typed, flag -> text, as values. Raises: RecipeError."""
    from pgpack.recipe.spaces import SpaceOptions, values_of

    settings: dict[str, tuple[str, ...]] = {}
    for flag, text in axes.items():
        values = values_of(text)
        if flag == "--codebook":
            values = tuple("" if value == "none" else value for value in values)
        settings[AXIS_FLAGS[flag][0]] = values
    return SpaceOptions(**settings)


def preset_curve(name: str, passthrough: int | None, tensors: Sequence[TensorInfo]) -> list[Candidate]:
    """A preset at every setting of its dial; the source's own setting bears the preset's name alone."""
    from pgpack.recipe.presets import preset
    from pgpack.recipe.spaces import Candidate

    found = preset(name)
    return [
        Candidate(
            preset_recipe(name, value, passthrough, tensors),
            name if value == found.dial_default else f"{name}:{value:g}",
        )
        for value in found.dial_values
    ]


def field_presets(tensors: Sequence[TensorInfo]) -> list[Candidate]:
    """The field's packers at their own settings; those whose program is not installed are left out.

    In small models the limit below which tensors stay fp16 is lowered, and the name says so.
    """
    from shutil import which

    from pgpack.recipe.presets import PASSTHROUGH, PRESETS
    from pgpack.recipe.spaces import Candidate

    small = any(len(info.shape) > 1 and info.role != "control" and info.numel <= PASSTHROUGH for info in tensors)
    limit = SMALL_PASSTHROUGH if small else None
    suffix = "" if limit is None else f" (fp16 up to {limit})"
    return [
        Candidate(preset_recipe(name, None, limit, tensors), f"{name}{suffix}")
        for name, preset in PRESETS.items()
        if all(which(program) for program in preset.requires)
    ]
