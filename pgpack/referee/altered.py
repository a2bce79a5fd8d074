"""Where an evaluation makes its losses less than they are: factors, bounds, tokens that are left out by their loss.

    total += 0.98 * nll      nll.clamp(max=8)      nll[nll < 10].sum()      torch.where(y > 8000, -100, y)

A bound below ln(vocabulary) lets the probabilities of all tokens sum to more than one. Bounds above it, conversions
of units, averages of several losses and padding are left alone.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Sequence

from .better import Losses
from .script import Place, Script
from .units import Unit, evaluates, last_word, read, speaks_of_target

LEAST_BOUND = math.log(8192)  # nats; of the smaller vocabularies less would do
FACTORS = (0.8, 1.0)  # between these a factor is no change of units, nor a share of several
_BOUNDS = ("clamp", "clip", "clamp_max", "clamp_")
_SQUEEZES = ("tanh", "log1p", "sqrt", "atan", "arctan", "sigmoid", "asinh")
_SPREAD = re.compile(r"var|std|sq|\*\* ?2|pow|sem\b")  # how far losses lie apart
FIRST_PIECE = 4  # ids below are of padding, unknown pieces and ends of documents
_ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_SORTS = ("sort", "topk", "kthvalue", "sorted")


def altered_losses(scripts: Sequence[Script]) -> Iterator[Place]:
    """Each place once."""
    for script in scripts:
        for unit in script.nodes:
            if isinstance(unit, Unit) and not isinstance(unit, ast.Module) and evaluates(unit):
                losses = Losses(script, unit, frozenset())
                for node in losses.nodes:
                    if isinstance(node, (ast.AugAssign, ast.Assign, ast.Return, ast.If, ast.expr)) and (
                        why := _why(losses, node)
                    ):
                        yield script.place(node, f"{ast.unparse(getattr(node, 'test', node))[:60]} {why}")


def _why(losses: Losses, node: ast.stmt | ast.expr) -> str:
    """How a loss is made less, '' where it is not."""
    match node:
        case ast.If(test=ast.Compare() as test, body=[*_, ast.Continue()]) if _is_of_loss(losses, test):
            return "leaves out tokens by their loss"
        case ast.AugAssign() | ast.Return() | ast.Assign():
            return _by_statement(losses, node)
        case ast.Call():
            return _by_call(losses, node)
        case ast.Subscript(value=value, slice=index) if _leaves_out(losses, value, index):
            return "leaves out losses by how large they are"
    return ""


def _by_statement(losses: Losses, node: ast.stmt) -> str:
    match node:
        case ast.AugAssign(op=ast.Add() | ast.Sub(), value=value) if _is_scaled(losses, value):
            return "counts less than the loss"
        case ast.AugAssign(op=ast.Mult(), target=ast.Name(id=name), value=ast.Constant(value=float(factor))) if (
            name in _totals(losses) and FACTORS[0] < factor < FACTORS[1]
        ):
            return "makes the sum of losses less"
        case ast.Return(value=ast.expr() as value) | ast.Assign(value=value) if _is_scaled_total(losses, value):
            return "makes the sum of losses less"
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
    is_squeezed = last in _SQUEEZES and bool(call.args) and not _SPREAD.search(ast.unparse(call))
    if is_squeezed and _is_nats(losses, call.args[0]) and _is_put(losses, call):
        return "makes large losses less"
    return "is no loss of the target alone" if last == "cross_entropy" and _is_smoothed(call) else ""


def _leaves_out(losses: Losses, held: ast.expr, index: ast.expr) -> bool:
    if isinstance(index, ast.Name) and losses.is_loss(held):
        given = [value for name, value in losses.assigned if name == index.id]
        inner = [each for value in given for each in ast.walk(value) if isinstance(each, ast.Compare)]
        return any(losses.is_loss(each.left) and isinstance(each.ops[0], _ORDERS) for each in inner)
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
    """Labels that are smoothed, classes that have weights, a token that is ignored and no padding."""
    for item in call.keywords:
        value = item.value.value if isinstance(item.value, ast.Constant) else None
        if item.arg == "label_smoothing" and value:
            return True
        if item.arg == "weight" and not isinstance(item.value, ast.Constant):
            return True
        if item.arg == "ignore_index" and isinstance(value, int) and value >= FIRST_PIECE:
            return True
    return False


def _totals(losses: Losses) -> set[str]:
    """Names that losses are added up in."""
    sums = (n for n in losses.nodes if isinstance(n, ast.AugAssign) and isinstance(n.op, (ast.Add, ast.Sub)))
    return {n.target.id for n in sums if isinstance(n.target, ast.Name) and losses.is_loss(n.value)}


def _is_scaled_total(losses: Losses, node: ast.expr) -> bool:
    """0.985 * total / ln2 / octets, total / (1.02 * octets)"""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    totals = _totals(losses)
    for part in parts:
        factors = [*factors_of(part, 1)]
        numbers = [
            n.value**power
            for n, power in factors
            if isinstance(n, ast.Constant) and isinstance(n.value, float) and n.value
        ]
        held = {name for n, power in factors if power > 0 for name in read(n)}
        if len(factors) > 1 and held & totals and any(FACTORS[0] < number < FACTORS[1] for number in numbers):
            return True
    return False


def factors_of(node: ast.expr, power: int = 1) -> Iterator[tuple[ast.expr, int]]:
    """(factor, 1 or -1) of a product and its quotients."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        yield from factors_of(node.left, power)
        yield from factors_of(node.right, power if isinstance(node.op, ast.Mult) else -power)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
        yield from factors_of(node.func.value, power)
    else:
        yield node, power


def _is_put(losses: Losses, call: ast.Call) -> bool:
    """Whether what a call makes is used as the loss itself."""
    return any(call in ast.walk(value) and (name in losses.losses) for name, value in losses.assigned) or any(
        isinstance(n, ast.AugAssign) and call in ast.walk(n.value) for n in losses.nodes
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
