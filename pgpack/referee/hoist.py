"""Sums that stand later than what they add was measured: they are read where it was.

    before = score(chunk); adapt(chunk); sum += before    ->    before = score(chunk); sum += before; adapt(chunk)

What is learned first is judged by order; a loss is fixed when it is computed, wherever it is added up. Moved is only
what nothing in between could tell: neither the sum nor what is added is read or changed there.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

REACH = 24  # statements that are looked back
_LEAVES = (ast.Continue, ast.Break, ast.Return, ast.Raise)
_PLAIN = {"item", "numel", "size", "len", "float", "double", "sum", "detach", "int", "to", "cpu", "squeeze"}


def hoist_sums_(tree: ast.AST) -> None:
    """Moves such sums within their blocks, all over a file."""
    for node in ast.walk(tree):
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list) and any(isinstance(each, ast.AugAssign) for each in block):
                _in_block_(block)


def _in_block_(block: list[ast.stmt]) -> None:
    for at, statement in enumerate(block):
        if (
            isinstance(statement, ast.AugAssign)
            and isinstance(statement.op, ast.Add)
            and _only_reads(statement.value)
        ):
            first = _earliest(block[:at], statement)
            if first < at:
                block.insert(first, block.pop(at))


def _earliest(before: Sequence[ast.stmt], statement: ast.AugAssign) -> int:
    """Where a sum may stand: right behind what gave it the last of its names, if that measured something."""
    needs = {n.id for n in ast.walk(statement.value) if isinstance(n, ast.Name)}
    own = {n.id for n in ast.walk(statement.target) if isinstance(n, ast.Name)}
    for at in range(len(before) - 1, max(0, len(before) - REACH) - 1 if needs else len(before), -1):
        names = [n for n in ast.walk(before[at]) if isinstance(n, ast.Name)]
        if needs & {n.id for n in names if isinstance(n.ctx, ast.Store)}:
            return at + 1 if _measures(before[at], needs) else len(before)
        if own & {n.id for n in names} or any(isinstance(node, _LEAVES) for node in ast.walk(before[at])):
            return len(before)
    return len(before)


def _only_reads(value: ast.expr) -> bool:
    """before * y.numel(): nothing is measured here."""
    calls = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
    return all(getattr(call.func, "attr", getattr(call.func, "id", "")) in _PLAIN for call in calls)


def _measures(statement: ast.stmt, needs: set[str]) -> bool:
    """before = loss.item(), before = -logp.gather(...), there or without gradients."""
    inner = statement.body if isinstance(statement, ast.With) else [statement]
    return any(
        isinstance(each, ast.Assign)
        and isinstance(_unsigned(each.value), ast.Call)
        and any(isinstance(target, ast.Name) and target.id in needs for target in each.targets)
        for each in inner
    )


def _unsigned(value: ast.expr) -> ast.expr:
    return value.operand if isinstance(value, ast.UnaryOp) else value
