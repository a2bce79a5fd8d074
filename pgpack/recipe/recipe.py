"""Recipe: which tensor is transformed, quantized and coded how. A frozen, hashable, printable value.

    tensor --transform*--> quantizer --symbols--> symbol transform* -> coder --bytes--> byte codec*

A recipe never searches: searches output recipes. The grammar of its text is in `pgpack.recipe.text`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pgpack.codecs import BYTE_CODECS
from pgpack.codecs.base import ByteCodec
from pgpack.errors import RecipeError
from pgpack.formats.containers import CONTAINERS
from pgpack.formats.own.contents import Container
from pgpack.formats.own.writer import Pgpack
from pgpack.stages import Fault, Table, stage_text

from .directives import Calibrate, Compensate, Drift, MlpOrder, Tune
from .policy import DIRECTIVES, Rule, default_side_codecs, policy_to_text
from .selector import Shapes, TensorInfo, infos
from .text import parsed


@dataclass(frozen=True)
class Recipe:
    """Ordered rules (first match wins) and directives: @container, @calib, @order, @drift, @tune and @compensate."""

    rules: tuple[Rule, ...]
    container: Container = field(default_factory=Pgpack)
    container_codecs: tuple[ByteCodec, ...] = field(default_factory=default_side_codecs)
    calib: Calibrate = field(default_factory=Calibrate)
    order: MlpOrder = field(default_factory=MlpOrder)
    drift: Drift = field(default_factory=Drift)
    tune: Tune = field(default_factory=Tune)
    compensate: Compensate = field(default_factory=Compensate)

    @staticmethod
    def parse(text: str) -> Recipe:
        """The recipe that its one-line form describes (grammar: `pgpack.recipe.text`); `str` gives it back.

        Raises: RecipeError with a caret under the fault.

        >>> recipe = pgpack.Recipe.parse("tok_emb.*=gptq(bits=8,clip=20)|rans; ndim<=1=cast; *=gptq(bits=6)|rans")
        >>> str(recipe)
        'tok_emb.*=gptq(bits=8,clip=20)|rans; ndim<=1=cast; *=gptq(bits=6)|rans'
        """
        return parse_recipe(text)

    def __str__(self) -> str:
        return recipe_to_text(self)

    def canonical(self) -> str:
        """Every field of every stage written out, after a version tag; what the digest hashes.

        >>> pgpack.Recipe.parse("*=rtn(bits=8)|brotli").canonical().startswith("pgpack-recipe-1 *=rtn(bits=8,")
        True
        """
        return "pgpack-recipe-1 " + recipe_to_text(self, full=True)

    @property
    def trains(self) -> bool:
        """Whether packing runs the model on calibration text, beyond calibrating."""
        return bool(self.drift.follows or self.compensate.count or self.tune.count)

    @property
    def digest(self) -> str:
        """sha256 of the canonical form, hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def governing(self, info: TensorInfo) -> int | None:
        """The number of the first rule that matches a tensor; None when none does."""
        return next((i for i, rule in enumerate(self.rules) if rule.selector.matches(info)), None)

    def without_idle_rules(self, shapes: Shapes) -> Recipe:
        """This recipe less the rules that govern none of these tensors; for templates such as the presets."""
        governing = {self.governing(info) for info in infos(shapes)}
        return dataclasses.replace(self, rules=tuple(rule for i, rule in enumerate(self.rules) if i in governing))


# Not in the canonical form of a recipe that does not use it: digests must not change.
_LATER = ("compensate", "drift")


def _container_text(recipe: Recipe, full: bool) -> str:
    stages: Sequence[Any] = (recipe.container, *recipe.container_codecs)
    tables = Table.joined((CONTAINERS, BYTE_CODECS))
    return "|".join(stage_text(tables.name_of(stage), stage, full=full) for stage in stages)


def directives_text(recipe: Recipe, full: bool) -> list[tuple[str, str]]:
    """(name, text) of each directive that differs from its default, or of all."""
    found = []
    default = (CONTAINERS["pgpack"](), default_side_codecs())
    if full or (recipe.container, recipe.container_codecs) != default:
        found.append(("container", _container_text(recipe, full)))
    for name, table in DIRECTIVES.items():
        stage = getattr(recipe, name)
        if (full and name not in _LATER) or stage != type(stage)():
            found.append((name, stage_text(table.name_of(stage), stage, full=full)))
    return found


def recipe_to_text(recipe: Recipe, *, full: bool = False) -> str:
    """The one-line form; `parse_recipe` inverts it. `full` writes every default out (the canonical form)."""
    items = [f"{rule.selector.text}={policy_to_text(rule.policy, full=full)}" for rule in recipe.rules]
    items += [f"@{name}={text}" for name, text in directives_text(recipe, full)]
    return "; ".join(items)


def parse_recipe(text: str) -> Recipe:
    """The recipe that `text` describes. Raises RecipeError with a caret under the fault."""
    try:
        rules, directives = parsed(text)
        return Recipe(rules, **directives)
    except Fault as fault:
        flat = text.replace("\n", " ")
        raise RecipeError(f"{fault}\n  {flat}\n  {' ' * fault.position}^") from None


def parse_recipe_toml(text: str) -> Recipe:
    """The recipe of a TOML document. Raises RecipeError on anything it does not know."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the recipe is not valid TOML: {error}") from None
    unknown = set(document) - {"version", "container", *DIRECTIVES, "rule"}
    rules = document.get("rule")
    if unknown or document.get("version") != 1 or not isinstance(rules, list):
        found = f"; unknown: {', '.join(sorted(unknown))}" if unknown else ""
        raise RecipeError(f"a TOML recipe has version = 1, [[rule]] tables and optional directives{found}")
    items = []
    for rule in rules:
        if set(rule) != {"match", "policy"}:
            raise RecipeError(f"a [[rule]] has exactly match and policy, found {', '.join(sorted(rule))}")
        items.append(f"{rule['match']}={rule['policy']}")
    items += [f"@{key}={document[key]}" for key in ("container", *DIRECTIVES) if key in document]
    return parse_recipe("; ".join(items))
