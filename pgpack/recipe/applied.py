"""A recipe applied to a checkpoint's names and shapes, once: what `plan` prints and `pack` walks.

    recipe, name -> shape --first match wins--> name -> AppliedTensor (policy, matrix shape, what it needs)

Knows no weights and no calibration, so a dry run can have it. Refuses a tensor without a rule and a rule without a
tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pgpack.errors import CoverageError
from pgpack.quantizers.base import Transform

from .policy import Rule, TensorPolicy
from .recipe import Recipe
from .selector import Shapes, ToldTensor, infos


@dataclass(frozen=True)
class AppliedTensor(ToldTensor):
    """A stored tensor and the rule that governs it."""

    rule: Rule

    @property
    def policy(self) -> TensorPolicy:
        return self.rule.policy

    def matrix_shape(self, hessian: tuple[int, ...] | None = None) -> tuple[int, int]:
        """The shape that it is quantized in; matrices of a stack lie under each other where its Hessian says so."""
        shape = self.shape
        if len(shape) < 2:
            return 1, self.numel
        stacked = len(shape) > 2 and hessian in ((shape[-1], shape[-1]), (shape[-1],))
        rows = shape[:-1] if stacked else shape[:1]
        return math.prod(rows), math.prod(shape[len(rows) :])


@dataclass(frozen=True, eq=False)
class Applied:
    """A recipe and, in the checkpoint's order, every tensor with its policy."""

    recipe: Recipe
    tensors: Mapping[str, AppliedTensor]

    @property
    def needs_hessian(self) -> tuple[str, ...]:
        """Names of the tensors whose policy refuses to work without a Hessian."""
        return tuple(name for name, tensor in self.tensors.items() if tensor.policy.needs_hessian)

    @property
    def needs_calibration(self) -> bool:
        return bool(self.needs_hessian)

    @property
    def corrects_rows(self) -> tuple[str, ...]:
        """Names of the tensors whose quantizer makes use of the second moments of output gradients."""
        return tuple(name for name, tensor in self.tensors.items() if tensor.policy.quantizer.corrects_rows)

    def by_transform(self) -> dict[Transform, list[str]]:
        """Transform -> names of the tensors that it applies to."""
        found: dict[Transform, list[str]] = {}
        for name, tensor in self.tensors.items():
            for transform in dict.fromkeys(tensor.policy.transforms):
                found.setdefault(transform, []).append(name)
        return found


def apply(recipe: Recipe, shapes: Shapes) -> Applied:
    """`recipe` on these tensors. Raises CoverageError when a tensor has no rule or a rule governs no tensor."""
    tensors: dict[str, AppliedTensor] = {}
    used: set[int] = set()
    for info in infos(shapes):
        index = recipe.governing(info)
        if index is None:
            raise CoverageError(f"no rule covers {info.name} {info.shape}; add one, for example *=cast(dtype=fp16)")
        used.add(index)
        tensors[info.name] = AppliedTensor(info.name, info.shape, recipe.rules[index], told=info.told)
    for index, rule in enumerate(recipe.rules):
        if index not in used:
            hidden = any(rule.selector.matches(info) for info in tensors.values())
            why = "every tensor it matches is taken by an earlier rule" if hidden else "no tensor matches it"
            raise CoverageError(_with_caret(recipe, rule, f"rule {rule.selector.text!r} governs nothing: {why}"))
    return Applied(recipe, tensors)


def _with_caret(recipe: Recipe, rule: Rule, message: str) -> str:
    text = str(recipe)
    start = text.find(rule.selector.text + "=")
    return f"{message}\n  {text}\n  {' ' * start}^" if start >= 0 else message
