"""Which tensors a rule is for: what a recipe sees of a tensor, and the terms that select by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pgpack.errors import RecipeError
from pgpack.tensors.roles import ROLES, Shaped, role_of, roles_of

Shapes = Mapping[str, tuple[int, ...]]  # of a checkpoint's stored tensors, in its order


@dataclass(frozen=True)
class TensorInfo(Shaped):
    """What a selector, and whoever reads a recipe, sees of a tensor."""

    name: str
    shape: tuple[int, ...]

    @property
    def role(self) -> str:
        return role_of(self.name, self.shape)


@dataclass(frozen=True)
class ToldTensor(TensorInfo):
    """A tensor of a checkpoint, whose model may tell its role where the name does not."""

    told: str = field(default="", kw_only=True)

    @property
    def role(self) -> str:
        return self.told or role_of(self.name, self.shape)


def infos(shapes: Shapes) -> Iterator[ToldTensor]:
    """What a recipe sees of each tensor, in order."""
    roles = roles_of(shapes)
    return (ToldTensor(name, shape, told=roles[name]) for name, shape in shapes.items())


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
