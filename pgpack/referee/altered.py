"""Where an evaluation makes its losses less than they are: factors, bounds, tokens that are left out by their loss.

    total += 0.98 * nll      nll.clamp(max=8)      nll[nll < 10].sum()      torch.where(y > 8000, -100, y)

A bound below ln(vocabulary) lets the probabilities of all tokens sum to more than one. Bounds above it, conversions of
units, averages of several losses and padding are left alone.
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
_BOUNDS = ("clamp", "clip", "clamp_max", "clamp_", "minimum", "min")
_SORTS = ("sort", "topk", "kthvalue", "sorted")


def altered_losses(scripts: Sequence[Script]) -> Iterator[Place]:
    """Each place once."""
    for script in scripts:
        for unit in script.nodes:
            if isinstance(unit, Unit) and not isinstance(unit, ast.Module) and evaluates(unit):
                losses = Losses(script, unit, frozenset())
                for node in losses.nodes:
                    if isinstance(node, (ast.AugAssign, ast.expr)) and (why := _why(losses, node)):
                        yield script.place(node, f"{ast.unparse(node)[:60]} {why}")


def _why(losses: Losses, node: ast.AugAssign | ast.expr) -> str:
    match node:
        case ast.AugAssign(op=ast.Add() | ast.Sub(), value=value) if _is_scaled(losses, value):
            return "counts less than the loss"
        case ast.Call() if last_word(node) in _BOUNDS and _is_bounded(losses, node):
            return f"bounds a loss by less than {LEAST_BOUND:.1f} nats"
        case ast.Call() if last_word(node) in ("where", "masked_fill") and _drops_targets(node):
            return "leaves targets out by what they are"
        case ast.Call() if last_word(node) == "cross_entropy" and _is_smoothed(node):
            return "is no loss of the target alone"
        case ast.Subscript(value=value, slice=ast.Compare(left=left)) if losses.is_loss(value) and losses.is_loss(left):
            return "leaves out losses by how large they are"
        case ast.Subscript(value=value, slice=ast.Slice()) if _is_sorted(losses, value):
            return "leaves out losses by how large they are"
    return ""


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
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    bounds = [item.value for item in call.keywords if item.arg == "max"]
    bounds += call.args[1:2] if last_word(call) in ("clamp", "clip", "clamp_") else call.args
    is_low = any(isinstance(n, ast.Constant) and isinstance(n.value, (int, float)) and 0 < n.value < LEAST_BOUND for n in bounds)
    if not is_low or owner is None:
        return False
    if last_word(call) in ("minimum", "min"):
        return False  # a dimension, or the least of some numbers
    return _is_nats(losses, owner)


def _is_nats(losses: Losses, node: ast.expr) -> bool:
    """Whether a loss is one in nats: no probability, whose bound is one."""
    text = ast.unparse(node)
    return losses.is_loss(node) and not any(word in text for word in ("exp", "softmax", "prob", "gather"))


def _drops_targets(call: ast.Call) -> bool:
    """torch.where(y > 8000, -100, y), y.masked_fill(y > 8000, -100)"""
    if last_word(call) == "where":
        test, given = call.args[:1], call.args[1:]
    else:
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
    return isinstance(node, ast.Call) and last_word(node) in _SORTS and (
        any(map(losses.is_loss, node.args))
        or (isinstance(node.func, ast.Attribute) and losses.is_loss(node.func.value))
    )
