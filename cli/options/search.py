"""The flags that search a space instead of measuring all of it."""

from __future__ import annotations

from dataclasses import dataclass

import click

from pgpack.sweep.samplers.table import SAMPLERS

from ..flag_group import flag, flag_group
from .numbers import WholeNumber


class SearchName(click.Choice):  # type: ignore[type-arg]  # not yet generic in click 8.1
    """`grid` or a sampler; those of other packages are looked for only when a name is not ours."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if value in SAMPLERS else super().convert(value, param, ctx)


@dataclass(frozen=True)
class SearchFlags:
    """The values of the flags."""

    name: str = flag(
        "--search",
        type=SearchName(("grid", *SAMPLERS.built_in)),
        default="grid",
        show_default=True,
        help="How the space is gone through.",
    )
    trials: int = flag(
        "--trials",
        type=WholeNumber(1),
        default=40,
        show_default=True,
        help="Recipes of a search; halving begins with so many.",
    )
    seed: int = flag("--seed", type=WholeNumber(0), default=0, show_default=True, help="Of a search's choices.")

    @classmethod
    def remembered(cls, text: str) -> SearchFlags:
        """The flags that `as_text` wrote."""
        words = text.split()
        said = dict(zip(words[::2], words[1::2], strict=True))
        return cls(said["--search"], int(said["--trials"]), int(said["--seed"])) if said else cls()

    @property
    def is_grid(self) -> bool:
        return self.name == "grid"

    def as_text(self) -> str:
        """The flags, for the study's card; '' for a grid."""
        return "" if self.is_grid else f"--search {self.name} --trials {self.trials} --seed {self.seed}"


search_options = flag_group(SearchFlags, "search")
