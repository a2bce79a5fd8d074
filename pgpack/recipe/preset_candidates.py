"""The field's packers as recipes for the tensors of one checkpoint: one setting, a whole dial, or all of them."""

from __future__ import annotations

from dataclasses import replace
from shutil import which

from .presets import PASSTHROUGH, PRESETS, ROLE_OF_NAME, preset, preset_text
from .recipe import Recipe, parse_recipe
from .selector import Selector, Shapes, infos
from .spaces import Candidate

SMALL_PASSTHROUGH = 4096  # where the field's own 65,536 would leave matrices of a small model unquantized


def preset_recipe(name: str, dial: float | None, passthrough: int | None, tensors: Shapes) -> Recipe:
    """A preset's recipe at a setting of its dial (None: the source's own), without rules that match nothing.

    A rule for the challenge's name of a kind of tensor goes by the role where no tensor has such a name: the table of
    another family gets what the field gives a table.
    """
    recipe = parse_recipe(preset_text(name, dial, PASSTHROUGH if passthrough is None else passthrough))
    known = list(infos(tensors))
    absent = {glob for glob in ROLE_OF_NAME if not any(Selector(glob).matches(info) for info in known)}
    rules = (
        replace(rule, selector=Selector(ROLE_OF_NAME[rule.selector.text])) if rule.selector.text in absent else rule
        for rule in recipe.rules
    )
    return replace(recipe, rules=tuple(rules)).without_idle_rules(tensors)


def preset_curve(name: str, passthrough: int | None, tensors: Shapes) -> list[Candidate]:
    """A preset at every setting of its dial; the source's own setting bears the preset's name alone."""
    found = preset(name)
    return [
        Candidate(
            preset_recipe(name, value, passthrough, tensors),
            name if value == found.dial_default else f"{name}:{value:g}",
        )
        for value in found.dial_values
    ]


def field_presets(tensors: Shapes) -> list[Candidate]:
    """The field's packers at their own settings; those whose program is not installed are left out.

    In small models the limit below which tensors stay fp16 is lowered, and the name says so.
    """
    matrices = (info for info in infos(tensors) if len(info.shape) > 1 and info.role != "control")
    small = any(info.numel <= PASSTHROUGH for info in matrices)
    limit = SMALL_PASSTHROUGH if small else None
    suffix = "" if limit is None else f" (fp16 up to {limit})"
    return [
        Candidate(preset_recipe(name, None, limit, tensors), f"{name}{suffix}")
        for name, each in PRESETS.items()
        if all(which(program) for program in each.requires)
    ]
