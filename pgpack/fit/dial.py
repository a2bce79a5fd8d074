"""One dial turned until what it costs meets a limit: what fits a budget, and what matches a loss.

    log2(dial) --probe--> height;  probes follow a known slope until the limit lies between two, then their secant

Owns the search. What a height is (bytes, the logarithm of a KL) is its caller's business, and a probe is always real:
an artifact that was packed. Heights fall with the dial where `slope` is negative and rise where it is positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pgpack.errors import RecipeError

Made = TypeVar("Made")
MAX_TURNS = 16
NARROW = 1e-5  # octaves of a dial
MARGIN = 0.02  # of a bracket, kept from its ends


@dataclass(frozen=True)
class Dial:
    """Where a dial begins, how far it goes and what an octave of it is about worth. Units: `slope` heights."""

    guess: float
    finest: float
    coarsest: float
    slope: float


@dataclass(frozen=True)
class Limit:
    """What heights are aimed at: at most `most`, and from `enough` on the search ends. Units: heights."""

    most: float
    enough: float
    aim: float


@dataclass(frozen=True)
class Turned(Generic[Made]):
    """The setting of greatest height within the limit and what was made there, None where nothing is within it.

    `least`: the least height that was seen.
    """

    dial: float
    made: Made | None
    least: float


def turn(make: Callable[[float], tuple[float, Made]], dial: Dial, limit: Limit) -> Turned[Made]:
    """Turn `dial` as near to `limit` as probes get; `make` gives the height of a setting and what has it.

    Raises: RecipeError of `make` where it refuses every setting (some coders have a finest step; what they refuse
    counts as too fine).
    """
    finest, coarsest = math.log2(dial.finest), math.log2(dial.coarsest)
    low, high = finest, coarsest
    heights: dict[float, float] = {}
    best: tuple[float, float, Made] | None = None
    at = math.log2(dial.guess)
    refusal: RecipeError | None = None
    refused = -math.inf
    for _ in range(MAX_TURNS):
        try:
            height, made = make(2**at)
        except RecipeError as error:
            refusal, refused, low = error, at, at
            if high - low < NARROW:
                break
            at = (low + high) / 2
            continue
        heights[at] = height
        if height <= limit.most and (best is None or height > best[0]):
            best = (height, 2**at, made)
        del made  # a model's symbols, of which no third set is held
        if (height > limit.most) == (dial.slope < 0):
            low = at
        else:
            high = at
        is_near = best is not None and best[0] >= limit.enough
        if is_near or low >= coarsest or high <= finest or high - low < NARROW:
            break
        at = min(max(_next(heights, low, high, limit.aim, dial.slope), finest), coarsest)
        if at <= refused:
            at = (refused + high) / 2
    if refusal is not None and not heights:
        raise refusal
    _, setting, result = best if best is not None else (0.0, dial.coarsest, None)
    return Turned(setting, result, min(heights.values()))


def _next(heights: dict[float, float], low: float, high: float, aim: float, slope: float) -> float:
    """Where to look next, in log2: the secant of the bracket, strictly inside it, else along `slope` from the nearest
    probe."""
    if low in heights and high in heights:
        rise = (heights[high] - heights[low]) / (high - low)
        guess = low + (aim - heights[low]) / rise if rise else (low + high) / 2
        margin = MARGIN * (high - low)
        return min(max(guess, low + margin), high - margin)
    nearest = min(heights, key=lambda at: abs(heights[at] - aim))
    return nearest + (aim - heights[nearest]) / slope
