"""Recipe: which tensor is transformed, quantized and coded how. A frozen, hashable, printable value.

    tensor --transform*--> quantizer --symbols--> symbol transform* -> coder --bytes--> byte codec*

A recipe never searches: searches output recipes. Text and TOML forms are in `pgpack.recipe.text`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from pgpack.codecs import BYTE_CODECS, CODERS
from pgpack.codecs.base import ByteCodec, SymbolCoder, SymbolTransform
from pgpack.errors import CoverageError, RecipeError
from pgpack.formats.containers import Container, Pgpack
from pgpack.quantizers.base import Quantizer, Transform, needs_hessian
from pgpack.tensors.roles import ROLES, role_of


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
        return any(needs_hessian(stage) for stage in (*self.transforms, self.quantizer))


@dataclass(frozen=True)
class TensorInfo:
    """What a selector sees of a tensor."""

    name: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        n = 1
        for length in self.shape:
            n *= length
        return n

    @property
    def role(self) -> str:
        return role_of(self.name, self.shape)


@dataclass(frozen=True)
class Selector:
    """Terms joined by '&', all of which must hold:

    a glob over the name (`blocks.*.mlp.*`), `role:NAME`, `numel<=N`, `numel>N`, `ndim<=N`, `ndim>N`.
    """

    text: str

    def __post_init__(self) -> None:
        for term in self.terms:
            _check_term(term)

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(term.strip() for term in self.text.split("&"))

    def matches(self, info: TensorInfo) -> bool:
        return all(_term_matches(term, info) for term in self.terms)


def _comparison(term: str) -> tuple[str, str, str] | None:
    for operator in ("<=", ">"):
        quantity, found, limit = term.partition(operator)
        if found and quantity.strip() in ("numel", "ndim"):
            return quantity.strip(), operator, limit.strip()
    return None


def _check_term(term: str) -> None:
    if not term:
        raise RecipeError("an empty selector; write a glob, role:NAME, numel<=N or ndim<=N")
    comparison = _comparison(term)
    if comparison and not comparison[2].isdigit():
        raise RecipeError(f"{term!r} needs a whole number after {comparison[1]}")
    if term.startswith("role:") and term[5:] not in ROLES:
        raise RecipeError(f"unknown role {term[5:]!r}; roles are {', '.join(ROLES)}")


def _term_matches(term: str, info: TensorInfo) -> bool:
    if comparison := _comparison(term):
        quantity, operator, limit = comparison
        value = info.numel if quantity == "numel" else len(info.shape)
        return value <= int(limit) if operator == "<=" else value > int(limit)
    if term.startswith("role:"):
        return info.role == term[5:]
    return fnmatchcase(info.name, term)


@dataclass(frozen=True)
class Rule:
    """A selector and the policy of the tensors it is the first to match."""

    selector: Selector
    policy: TensorPolicy


@dataclass(frozen=True)
class Tokens:
    """`@calib`: how calibration is collected when no file is given: the first `count` tokens of the training text."""

    count: int = 32_768

    def __post_init__(self) -> None:
        if self.count < 1:
            raise RecipeError("calibration needs a count of at least 1 token")


@dataclass(frozen=True)
class Order:
    """`@order`: a function-preserving order of MLP hidden units, applied to the checkpoint before anything else.

    by = none | norm (rows of mlp.fc by falling norm, columns of mlp.proj alike).
    """

    by: str = "none"

    def __post_init__(self) -> None:
        if self.by not in ("none", "norm"):
            raise RecipeError(f"unknown order {self.by!r}; use none or norm")


@dataclass(frozen=True)
class Steps:
    """`@tune`: Adam steps that tune what decodes the symbols against the fp32 model (`pgpack.refine.tuning`).

    `count`: steps, 0 for no tuning. `lr`: the largest change of an exponent per step, in octaves. `rows`, `columns`:
    values an octave that exponents are stored to (0: not tuned, 1, 2, 4 or 8).
    """

    count: int = 0
    lr: float = 0.01
    rows: int = 8
    columns: int = 8

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 < self.lr < 1:
            raise RecipeError("tuning needs a count of at least 0 and a learning rate between 0 and 1")
        if self.rows not in (0, 1, 2, 4, 8) or self.columns not in (0, 1, 2, 4, 8):
            raise RecipeError("tuning stores 0, 1, 2, 4 or 8 values an octave")


@dataclass(frozen=True)
class Weights:
    """`@compensate`: quantize in stages and train what is still free to make up for it (`pgpack.refine.compensate`).

    `count`: Adam steps in all, 0 for none. `groups`: stages, about as many weights in each. `lr`: the largest change
    of a weight per step, in units of its tensor's root mean square.
    """

    count: int = 0
    groups: int = 3
    lr: float = 0.002

    def __post_init__(self) -> None:
        if self.count < 0 or self.groups < 2 or not 0 < self.lr < 1:
            raise RecipeError(
                "compensation needs a count of at least 0, 2 groups or more and a learning rate between 0 and 1"
            )


@dataclass(frozen=True)
class Recipe:
    """Ordered rules (first match wins) and the directives @container, @calib, @order, @tune and @compensate."""

    rules: tuple[Rule, ...]
    container: Container = field(default_factory=Pgpack)
    container_codecs: tuple[ByteCodec, ...] = field(default_factory=default_side_codecs)
    calib: Tokens = field(default_factory=Tokens)
    order: Order = field(default_factory=Order)
    tune: Steps = field(default_factory=Steps)
    compensate: Weights = field(default_factory=Weights)

    def __str__(self) -> str:
        from .text import recipe_to_text

        return recipe_to_text(self)

    def canonical(self) -> str:
        """Every field of every stage written out, after a version tag; what the digest hashes."""
        from .text import recipe_to_text

        return "pgpack-recipe-1 " + recipe_to_text(self, full=True)

    @property
    def digest(self) -> str:
        """sha256 of the canonical form, hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def resolve(self, tensors: Sequence[TensorInfo]) -> dict[str, Rule]:
        """Tensor name -> the rule that governs it, in the order of `tensors`.

        Raises CoverageError when a tensor has no rule or a rule governs no tensor.
        """
        governed: dict[str, Rule] = {}
        used: set[int] = set()
        for info in tensors:
            index = next((i for i, rule in enumerate(self.rules) if rule.selector.matches(info)), None)
            if index is None:
                raise CoverageError(
                    f"no rule covers {info.name} {info.shape}; add one, for example *=cast(dtype=fp16)"
                )
            used.add(index)
            governed[info.name] = self.rules[index]
        for index, rule in enumerate(self.rules):
            if index not in used:
                hidden = any(rule.selector.matches(info) for info in tensors)
                why = "every tensor it matches is taken by an earlier rule" if hidden else "no tensor matches it"
                raise CoverageError(self._caret(index, f"rule {rule.selector.text!r} governs nothing: {why}"))
        return governed

    def without_idle_rules(self, tensors: Sequence[TensorInfo]) -> Recipe:
        """This recipe less the rules that govern no tensor of `tensors`; for templates such as the presets."""
        first = [
            next((i for i, rule in enumerate(self.rules) if rule.selector.matches(info)), None) for info in tensors
        ]
        rules = tuple(rule for i, rule in enumerate(self.rules) if i in first)
        return dataclasses.replace(self, rules=rules)

    def _caret(self, index: int, message: str) -> str:
        text = str(self)
        start = text.find(self.rules[index].selector.text + "=")
        return f"{message}\n  {text}\n  {' ' * max(start, 0)}^" if start >= 0 else message


def infos(shapes: Mapping[str, Sequence[int]]) -> list[TensorInfo]:
    """TensorInfo for each name -> shape, in order."""
    return [TensorInfo(name, tuple(shape)) for name, shape in shapes.items()]


def stages_of(policy: TensorPolicy) -> list[Any]:
    """All stages of a policy in order of application."""
    coding = policy.coding
    return [*policy.transforms, policy.quantizer, *coding.symbol_transforms, coding.coder, *coding.byte_codecs]
