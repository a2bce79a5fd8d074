"""A recipe as the TOML document that `parse_recipe_toml` reads."""

from __future__ import annotations

from pgpack.recipe.policy import policy_to_text
from pgpack.recipe.recipe import Recipe, directives_text


def recipe_to_toml(recipe: Recipe) -> str:
    """The document; `parse_recipe_toml` inverts it."""
    lines = ["version = 1"]
    lines += [f"{name} = '{text}'" for name, text in directives_text(recipe, full=False)]
    for rule in recipe.rules:
        lines += ["", "[[rule]]", f"match = '{rule.selector.text}'", f"policy = '{policy_to_text(rule.policy)}'"]
    return "\n".join(lines) + "\n"
