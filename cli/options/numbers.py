"""What numbers are on the command line: whole ones, with units as people say them of tokens, and finite others."""

from __future__ import annotations

import math
from typing import Any

import click

from pgpack.sizes import parse_count


class WholeNumber(click.IntRange):
    """A whole number, as digits or as tokens and parameters are told: 16k, 1.5M, 9e9, 7B."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Raises: click.BadParameter, saying what is taken and what that looks like."""
        try:
            number = parse_count(value) if isinstance(value, str) else int(value)
            return int(super().convert(number, param, ctx))
        except (ValueError, click.BadParameter):
            self.fail(_refusal(value, "a whole number", self, 64), param, ctx)

    def _describe_range(self) -> str:
        return _range(self)


class FiniteNumber(click.FloatRange):
    """A number, neither infinite nor NaN."""

    name = "x"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises: click.BadParameter, saying what is taken and what that looks like."""
        try:
            number = float(super().convert(value, param, ctx))
        except click.BadParameter:
            number = math.nan
        if not math.isfinite(number):
            self.fail(_refusal(value, "a number", self, 0.5 if self.max == 1 else 1.5), param, ctx)
        return number

    def _describe_range(self) -> str:
        return _range(self)


def _range(taken: click.IntRange | click.FloatRange) -> str:
    """What --help says of the bounds; click writes x<=None where there are none."""
    if taken.min is None and taken.max is None:
        return ""
    if taken.min is not None and taken.max is not None and not (taken.min_open or taken.max_open):
        return f"{taken.min} to {taken.max}"
    return " and ".join(_bounds(taken))


def _bounds(taken: click.IntRange | click.FloatRange) -> list[str]:
    least = [] if taken.min is None else [f"{'above' if taken.min_open else 'at least'} {taken.min}"]
    return least + ([] if taken.max is None else [f"{'below' if taken.max_open else 'at most'} {taken.max}"])


def _refusal(value: Any, kind: str, taken: click.IntRange | click.FloatRange, example: float) -> str:
    """Such as: 'x' is not a whole number of at least 1; write for example 64."""
    bounds = [f"of {bound}" if bound.startswith("at") else bound for bound in _bounds(taken)]
    shown = example if taken.max is None or example <= taken.max else taken.max
    return f"{' '.join([f'{str(value)!r} is not {kind}', ' and '.join(bounds)]).strip()}; write for example {shown}"
