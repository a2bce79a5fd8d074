"""Recipe: which tensor is transformed, quantized and coded how. A frozen, hashable, printable value.

    tensor --transform*--> quantizer --symbols--> symbol transform* -> coder --bytes--> byte codec*

A recipe never searches: searches output recipes. Text and TOML forms are in `pgpack.recipe.text`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.codecs.base import ByteCodec, SymbolCoder, SymbolTransform
from pgpack.formats.containers import CONTAINERS
from pgpack.formats.own.contents import Container
from pgpack.formats.own.writer import Pgpack
from pgpack.quantizers import QUANTIZERS, TRANSFORMS
from pgpack.quantizers.base import Quantizer, Transform
from pgpack.stages import Table, stage_text

from .directives import Calibrate, Compensate, MlpOrder, Tune
from .selector import Selector, Shapes, TensorInfo


def default_side_codecs() -> tuple[ByteCodec, ...]:
    """How side information (scales, tables, permutations) is compressed unless @container says otherwise."""
    return (BYTE_CODECS["shuffle"](stride=2), BYTE_CODECS["brotli"](quality=11))


@dataclass(frozen=True)
class Coding:
    """Symbols -> bytes. Tensors with equal (coder, byte_codecs) share one stream of the artifact."""

    symbol_transforms: tuple[SymbolTransform, ...] = ()
    coder: SymbolCoder = field(default_factory=CODERS["raw"])
    byte_codecs: tuple[ByteCodec, ...] = ()


@dataclass(frozen=True)
class TensorPolicy:
    """The whole chain of one tensor."""

    transforms: tuple[Transform, ...]
    quantizer: Quantizer
    coding: Coding

    @property
    def needs_hessian(self) -> bool:
        return any(stage.needs_hessian for stage in (*self.transforms, self.quantizer))


@dataclass(frozen=True)
class Rule:
    """A selector and the policy of the tensors it is the first to match."""

    selector: Selector
    policy: TensorPolicy


@dataclass(frozen=True)
class Recipe:
    """Ordered rules (first match wins) and the directives @container, @calib, @order, @tune and @compensate."""

    rules: tuple[Rule, ...]
    container: Container = field(default_factory=Pgpack)
    container_codecs: tuple[ByteCodec, ...] = field(default_factory=default_side_codecs)
    calib: Calibrate = field(default_factory=Calibrate)
    order: MlpOrder = field(default_factory=MlpOrder)
    tune: Tune = field(default_factory=Tune)
    compensate: Compensate = field(default_factory=Compensate)

    def __str__(self) -> str:
        return recipe_to_text(self)

    def canonical(self) -> str:
        """Every field of every stage written out, after a version tag; what the digest hashes."""
        return "pgpack-recipe-1 " + recipe_to_text(self, full=True)

    @property
    def digest(self) -> str:
        """sha256 of the canonical form, hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def governing(self, info: TensorInfo) -> int | None:
        """The number of the first rule that matches a tensor; None when none does."""
        return next((i for i, rule in enumerate(self.rules) if rule.selector.matches(info)), None)

    def without_idle_rules(self, shapes: Shapes) -> Recipe:
        """This recipe less the rules that govern none of these tensors; for templates such as the presets."""
        governing = {self.governing(TensorInfo(name, shape)) for name, shape in shapes.items()}
        return dataclasses.replace(self, rules=tuple(rule for i, rule in enumerate(self.rules) if i in governing))


def stages_of(policy: TensorPolicy) -> list[Any]:
    """All stages of a policy in order of application."""
    coding = policy.coding
    return [*policy.transforms, policy.quantizer, *coding.symbol_transforms, coding.coder, *coding.byte_codecs]


DIRECTIVES = {  # of one stage
    name: Table(__package__, {stage: f"directives:{cls}"})
    for name, stage, cls in (
        ("calib", "tokens", "Calibrate"),
        ("order", "mlp", "MlpOrder"),
        ("tune", "steps", "Tune"),
        ("compensate", "weights", "Compensate"),
    )
}
_LATER = ("compensate",)  # not in the canonical form of a recipe that does not use it: digests must not change
KINDS: tuple[tuple[str, Table], ...] = (
    ("transform", TRANSFORMS),
    ("quantizer", QUANTIZERS),
    ("symbol transform", SYMBOL_TRANSFORMS),
    ("coder", CODERS),
    ("byte codec", BYTE_CODECS),
)
STAGES = Table.joined(table for _, table in KINDS)


def policy_to_text(policy: TensorPolicy, *, full: bool = False) -> str:
    """`stage|stage|...`; the default coder is left out unless `full`."""
    raw = CODERS["raw"]()
    return "|".join(
        stage_text(STAGES.name_of(stage), stage, full=full) for stage in stages_of(policy) if full or stage != raw
    )


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
