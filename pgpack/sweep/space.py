"""The space of a sweep as its user names it: templates, axes, a preset's dial, or the default."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from pgpack.recipe.preset_candidates import field_presets, preset_curve
from pgpack.recipe.recipe import parse_recipe
from pgpack.recipe.selector import Shapes
from pgpack.recipe.spaces import (
    Candidate,
    SpaceOptions,
    default_space,
    expand,
    read_space,
    sorted_by_quantization,
    space_templates,
)
from pgpack.sweep.samplers.space import SearchSpace, fixed, options_template, template_of


@dataclass(frozen=True)
class Space:
    """Recipes to measure; of its first four fields at most one is given, without any it is the default space.

    `template`: one recipe with braces; `templates`: the text of a space file; `options`: axes; `preset`: a packer of
    the field over its dial, tensors of at most `passthrough` values kept in fp16. `text`: for the study's card.
    """

    template: str | None = None
    templates: str | None = None
    options: SpaceOptions | None = None
    preset: str | None = None
    passthrough: int | None = None
    text: str = "the default space"

    @classmethod
    def of(cls, templates: Iterable[str]) -> Space:
        """The recipes of all these templates."""
        text = "\n".join([templates] if isinstance(templates, str) else templates)
        return cls(templates=text, text=text)

    @property
    def is_default(self) -> bool:
        return self.template is None and self.templates is None and self.options is None and self.preset is None

    def candidates(self, tensors: Shapes) -> list[Candidate]:
        """All its recipes. Raises: RecipeError."""
        if self.template is not None:
            return sorted_by_quantization([Candidate(recipe) for recipe in expand(self.template)])
        if self.templates is not None:
            return sorted_by_quantization(read_space(self.templates))
        if self.preset is not None:
            return preset_curve(self.preset, self.passthrough, tensors)
        if self.options is not None:
            return self.options.candidates(tensors)
        return default_space(tensors, field_presets(tensors))

    def points(self, tensors: Shapes) -> SearchSpace | None:
        """Its recipes with a dimension for every list; None for the default, which a sampler has its own of.

        Raises: RecipeError.
        """
        if self.template is not None:
            return SearchSpace((template_of(self.template),))
        if self.templates is not None:
            return SearchSpace(tuple(template_of(template) for _, template in space_templates(self.templates)))
        if self.options is not None:
            return SearchSpace((options_template(self.options, tensors),))
        return fixed(self.candidates(tensors)) if self.preset is not None else None


def in_our_format(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates whose artifact can hold a model folder's companions: the field's files have no room for them."""
    return [candidate for candidate in candidates if not candidate.recipe.container.is_field]


def without_hessians(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates with GPTQ replaced by plain rounding to the same steps; what nothing can replace is left out."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        if not candidate.recipe.container.is_field:
            recipe = parse_recipe(str(candidate.recipe).replace("gptq(", "sdclip("))
            candidate = dataclasses.replace(candidate, recipe=recipe)
        if not any(rule.policy.needs_hessian for rule in candidate.recipe.rules):
            found.setdefault(candidate.recipe.digest, candidate)
    return list(found.values())
