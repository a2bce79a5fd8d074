"""Where an evaluation makes its losses less than they are: factors, bounds, tokens that are left out by their loss.

    total += 0.98 * nll      nll.clamp(max=8)      nll[nll < 10].sum()      torch.where(y > 8000, -100, y)

A bound below ln(vocabulary) lets the probabilities of all tokens sum to more than one. Bounds above it, conversions
of units, averages of several losses and padding are left alone.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence

from .better import Losses
from .script import Place, Script
from .units import Unit, evaluates, last_word, speaks_of_target

LEAST_BOUND = math.log(8192)  # nats; of the smaller vocabularies less would do
FACTORS = (0.8, 1.0)  # between these a factor is no change of units, nor a share of several
_BOUNDS = ("clamp", "clip", "clamp_max", "clamp_")
_SORTS = ("sort", "topk", "kthvalue", "sorted")


def altered_losses(scripts: Sequence[Script]) -> Iterator[Place]:
    """Each place once."""
    for script in scripts:
        for unit in script.nodes:
            if isinstance(unit, Unit) and not isinstance(unit, ast.Module) and evaluates(unit):
                losses = Losses(script, unit, frozenset())
                for node in losses.nodes:
                    if isinstance(node, (ast.AugAssign, ast.If, ast.expr)) and (why := _why(losses, node)):
                        yield script.place(node, f"{ast.unparse(getattr(node, 'test', node))[:60]} {why}")


def _why(losses: Losses, node: ast.AugAssign | ast.If | ast.expr) -> str:
    """How a loss is made less, '' where it is not."""
    match node:
        case ast.If(test=ast.Compare() as test, body=[*_, ast.Continue()]) if _is_of_loss(losses, test):
            return "leaves out tokens by their loss"
        case ast.AugAssign(op=ast.Add() | ast.Sub(), value=value) if _is_scaled(losses, value):
            return "counts less than the loss"
        case ast.Call():
            return _by_call(losses, node)
        case ast.Subscript(value=value, slice=index) if _leaves_out(losses, value, index):
            return "leaves out losses by how large they are"
    return ""


def _is_of_loss(losses: Losses, test: ast.Compare) -> bool:
    """per.mean() > 4: a loss, and not a number of tokens, against a constant or an option."""
    parts = (test.left, *test.comparators)
    return (
        any(map(losses.is_loss, parts)) and not all(map(losses.is_loss, parts)) and "numel" not in ast.unparse(test)
    )


def _by_call(losses: Losses, call: ast.Call) -> str:
    last = last_word(call)
    if last in _BOUNDS and _is_bounded(losses, call):
        return f"bounds a loss by less than {LEAST_BOUND:.1f} nats"
    if last in ("where", "masked_fill") and _drops_targets(call):
        return "leaves targets out by what they are"
    return "is no loss of the target alone" if last == "cross_entropy" and _is_smoothed(call) else ""


def _leaves_out(losses: Losses, held: ast.expr, index: ast.expr) -> bool:
    if isinstance(index, ast.Compare):
        return losses.is_loss(held) and losses.is_loss(index.left)
    return isinstance(index, ast.Slice) and _is_sorted(losses, held)


def _is_scaled(losses: Losses, node: ast.expr) -> bool:
    """0.98 * loss, loss / 1.02, either times anything else."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        for one, other in ((node.left, node.right), (node.right, node.left)):
            number = one.value if isinstance(one, ast.Constant) else None
            if isinstance(number, float) and number and losses.is_loss(other):
                factor = number if isinstance(node.op, ast.Mult) else 1 / number
                return FACTORS[0] < factor < FACTORS[1]
        return isinstance(node.op, ast.Mult) and (_is_scaled(losses, node.left) or _is_scaled(losses, node.right))
    inner = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    return inner is not None and _is_scaled(losses, inner)


def _is_bounded(losses: Losses, call: ast.Call) -> bool:
    """nll.clamp(max=8), nll.clip(0, 8)"""
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    bounds = [item.value for item in call.keywords if item.arg == "max"]
    bounds += call.args[:1] if last_word(call) == "clamp_max" else call.args[1:2]
    numbers = [each.value for each in bounds if isinstance(each, ast.Constant)]
    is_low = any(isinstance(n, (int, float)) and 0 < n < LEAST_BOUND for n in numbers)
    return is_low and owner is not None and _is_nats(losses, owner)


def _is_nats(losses: Losses, node: ast.expr) -> bool:
    """Whether a loss is one in nats: no probability, whose bound is one."""
    text = ast.unparse(node)
    return losses.is_loss(node) and not any(word in text for word in ("exp", "softmax", "prob", "gather"))


def _drops_targets(call: ast.Call) -> bool:
    """torch.where(y > 8000, -100, y), y.masked_fill(y > 8000, -100)"""
    test, given = call.args[:1], call.args[1:]
    ignored = any("-100" in ast.unparse(each) for each in given)
    compared = (each for part in test for each in ast.walk(part) if isinstance(each, ast.expr))
    return ignored and any(speaks_of_target(each) for each in compared)


def _is_smoothed(call: ast.Call) -> bool:
    return any(
        item.arg == "label_smoothing" and isinstance(item.value, ast.Constant) and bool(item.value.value)
        for item in call.keywords
    )


def _is_sorted(losses: Losses, node: ast.expr) -> bool:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return (
        isinstance(node, ast.Call)
        and last_word(node) in _SORTS
        and (
            any(map(losses.is_loss, node.args))
            or (isinstance(node.func, ast.Attribute) and losses.is_loss(node.func.value))
        )
    )
