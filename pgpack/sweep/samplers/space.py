"""A space as dimensions: what a sampler chooses among. Every point stands for one plain recipe.

    template   a recipe with open places, its dimensions   `*=gptq(bits=8,clip={28,41,57})|{rans,brotli}` has two
    dimension  the values of one open place, numbers in ascending order
    point      (template, a value of each of its dimensions), as indices

Refuses nothing: a point whose text is no recipe raises when its candidate is asked for.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from pgpack.recipe.dials import SMALL
from pgpack.recipe.recipe import parse_recipe
from pgpack.recipe.selector import Shapes
from pgpack.recipe.spaces import STATES, Candidate, SpaceOptions, option_recipe, template_parts

Point = tuple[int, ...]
_KEY = re.compile(r"(\w+)\s*=\s*\Z")
_MATRIX_STEPS = ("2e-5", "3.2e-5", "5e-5", "8e-5", "1.25e-4", "2e-4", "3.2e-4", "5e-4", "8e-4", "1.25e-3")
_CLIPS = ("20", "28", "41", "57", "83", "114", "159", "216")  # of GPTQ with 127 levels: steps of 0.16 to 1.7 sigma
_TRELLIS = f"tcq(step={{}},states={STATES})|rans_scaled(states={STATES})"


@dataclass(frozen=True)
class Dimension:
    """One open place of a template."""

    name: str
    values: tuple[str, ...]

    @staticmethod
    def of(name: str, values: Iterable[str]) -> Dimension:
        """The dimension without repetitions, numbers sorted."""
        found = tuple(dict.fromkeys(values))
        if all(_number(value) is not None for value in found):
            found = tuple(sorted(found, key=float))
        return Dimension(name, found)

    @cached_property
    def positions(self) -> tuple[float, ...] | None:
        """Where each value lies from 0 to 1, in logarithms where all are positive; None where they are no numbers."""
        numbers = [_number(value) for value in self.values]
        known = [number for number in numbers if number is not None]
        if len(known) < max(2, len(numbers)):
            return None
        places = [math.log(number) for number in known] if min(known) > 0 else known
        return tuple((place - places[0]) / (places[-1] - places[0]) for place in places)


@dataclass(frozen=True)
class Template:
    """Dimensions, and the recipe for a value of each."""

    dimensions: tuple[Dimension, ...]
    candidate_at: Callable[[tuple[str, ...]], Candidate]

    def __len__(self) -> int:
        return math.prod(len(dimension.values) for dimension in self.dimensions)


@dataclass(frozen=True)
class SearchSpace:
    """Templates one after the other; points are numbered from 0."""

    templates: tuple[Template, ...]

    def __len__(self) -> int:
        return sum(len(template) for template in self.templates)

    def candidate(self, point: Point) -> Candidate:
        """The recipe at `point`. Raises: RecipeError when its text is none."""
        template = self.templates[point[0]]
        chosen = zip(template.dimensions, point[1:], strict=True)
        return template.candidate_at(tuple(dimension.values[index] for dimension, index in chosen))

    def point(self, number: int) -> Point:
        """The point of a number below the length; the last dimension varies fastest."""
        for which, template in enumerate(self.templates):
            if number < len(template):
                indices = []
                for dimension in reversed(template.dimensions):
                    number, index = divmod(number, len(dimension.values))
                    indices.append(index)
                return (which, *reversed(indices))
            number -= len(template)
        raise IndexError(number)

    def sample(self, count: int, seed: int) -> list[Point]:
        """At most `count` different points, drawn with equal chances; all in a drawn order where there are fewer."""
        numbers = range(len(self))
        return [self.point(number) for number in random.Random(seed).sample(numbers, min(count, len(numbers)))]


def template_of(text: str) -> Template:
    """A recipe with braces. Raises: RecipeError as `pgpack.recipe.spaces.expand` does."""
    pieces, alternatives = template_parts(text)
    names = [match.group(1) if (match := _KEY.search(piece)) else "" for piece in pieces]
    dimensions = tuple(Dimension.of(name, values) for name, values in zip(names, alternatives, strict=False))

    def candidate_at(values: tuple[str, ...]) -> Candidate:
        chosen = (*values, "")
        return Candidate(parse_recipe("".join(a + b for a, b in zip(pieces, chosen, strict=True))))

    return Template(dimensions, candidate_at)


def options_template(options: SpaceOptions, tensors: Shapes) -> Template:
    """The axes of `pgpack sweep` as dimensions."""
    dimensions = tuple(Dimension.of(name, values) for name, values in options.axes().items())
    return Template(dimensions, lambda values: Candidate(option_recipe(*values).without_idle_rules(tensors)))


def fixed(candidates: Iterable[Candidate]) -> SearchSpace:
    """Recipes with nothing in common, as one point each."""

    def template(candidate: Candidate) -> Template:
        return Template((), lambda values: candidate)

    return SearchSpace(tuple(template(candidate) for candidate in candidates))


def joint_space(tensors: Shapes) -> SearchSpace:
    """What a search explores when nothing is said: the trellis with one dial for embeddings and heads and one for the
    other matrices, and GPTQ with the same two dials under two codings."""

    def recipe(embedding: str, matrix: str) -> Candidate:
        small = f"ndim<=1={SMALL}; role:control={SMALL}"
        text = f"{small}; role:embedding={embedding}; role:head={embedding}; *={matrix}"
        return Candidate(parse_recipe(text).without_idle_rules(tensors))

    def gptq(clip: str, coding: str) -> str:
        return f"gptq(bits=8,clip={clip})|{coding}"

    steps = (Dimension.of("embedding step", _MATRIX_STEPS), Dimension.of("step", _MATRIX_STEPS))
    clips = (Dimension.of("embedding clip", _CLIPS), Dimension.of("clip", _CLIPS))
    coding = Dimension.of("coding", ("rans", "brotli(quality=11)"))
    return SearchSpace(
        (
            Template(steps, lambda v: recipe(_TRELLIS.format(v[0]), _TRELLIS.format(v[1]))),
            Template((*clips, coding), lambda v: recipe(gptq(v[0], v[2]), gptq(v[1], v[2]))),
        )
    )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
