"""What a model is trained for: a recipe of the trellis engine, whose step is the dial, or a budget that turns it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from pgpack.errors import RecipeError
from pgpack.quantizers.cast import Cast
from pgpack.quantizers.tcq import Tcq
from pgpack.recipe.applied import Applied, apply
from pgpack.recipe.dials import trellis_recipe
from pgpack.recipe.policy import Rule
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.recipe.selector import Shapes
from pgpack.sizes import parse_size

FIRST_GUESS = 1e-3  # of the dial, where a budget sets it
STATES = 64  # of a budget's trellis, as the packer's default effort has


@dataclass(frozen=True)
class PackerTarget:
    """`recipe` at any setting of its dial; `dial`: the step to begin with; `budget`: bytes of the whole file, None
    where the dial stays as it is."""

    recipe: Recipe
    dial: float
    budget: int | None = None

    @classmethod
    def of(cls, text: str, shapes: Shapes) -> PackerTarget:
        """The target that a user names. Raises: RecipeError, saying what to give, for a size that is none, and for a
        recipe that is none or has other quantizers than tcq, all of one step, and cast."""
        if re.match(r"\s*\d", text):
            try:
                return cls(trellis_recipe(FIRST_GUESS, STATES, shapes), FIRST_GUESS, parse_size(text))
            except ValueError as error:
                raise RecipeError(f"to train for a budget: {error}") from None
        recipe = parse_recipe(text).without_idle_rules(shapes)
        quantizers = [rule.policy.quantizer for rule in recipe.rules]
        steps = {each.step for each in quantizers if isinstance(each, Tcq)}
        if len(steps) != 1 or not all(isinstance(each, Tcq | Cast) for each in quantizers):
            raise RecipeError(
                "to train for a recipe its matrices are coded by tcq, all with one step, and the rest by cast; "
                "give such a one, or a budget: 480kB"
            )
        return cls(recipe, steps.pop())

    def at(self, dial: float) -> PackerTarget:
        """The same with the dial elsewhere."""
        step = float(f"{dial:.7g}")
        rules = tuple(_turned(rule, step) for rule in self.recipe.rules)
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, rules=rules), dial=step)

    def applied(self, shapes: Shapes) -> Applied:
        """The recipe on these tensors."""
        return apply(self.recipe, shapes)


def _turned(rule: Rule, step: float) -> Rule:
    quantizer = rule.policy.quantizer
    if not isinstance(quantizer, Tcq):
        return rule
    return dataclasses.replace(
        rule, policy=dataclasses.replace(rule.policy, quantizer=dataclasses.replace(quantizer, step=step))
    )
