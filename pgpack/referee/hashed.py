"""Caches of counts in which an evaluation looks its target up by a hash: probabilities that sum to no number.

    key = (context * A ^ target * B) % size;  p = pairs[key] / contexts[context % size]

The counts of all tokens of one context lie anywhere in such a table, those of others among them, and nothing but the
target's own is ever read. Counting by such a key after the target was scored is left alone; so are rows of one
context, from which the target's share is taken.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from .script import Place, Script
from .units import Unit, bound, evaluates, last_word, own_nodes, read

_TARGET = re.compile(r"^(?:y\w?|tgts?|targets?|labels?|golds?|truth|actual|nxt|next_\w+|(?:y|tgt|targets?)_\w+)$")
_LOOKS_UP = {"gather", "index_select", "take", "take_along_dim", "get"}
_ROUNDS = 3


def looked_up_by_target(scripts: Sequence[Script]) -> Iterator[Place]:
    """Where a table is read at a hash of the token that is predicted."""
    hashers = {
        node.name: node
        for script in scripts
        for node in script.nodes
        if isinstance(node, ast.FunctionDef) and any(map(_is_hash, _returned(node)))
    }
    for script in scripts:
        for unit in script.nodes:
            if isinstance(unit, Unit) and evaluates(unit):
                yield from _found(script, unit, hashers)


def _returned(function: ast.FunctionDef) -> Iterator[ast.expr]:
    yield from (n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None)


def _found(script: Script, unit: Unit, hashers: dict[str, ast.FunctionDef]) -> Iterator[Place]:
    nodes = [*own_nodes(unit)]
    pairs = [pair for node in nodes for pair in bound(node)]
    targets = {name for name, value in pairs if _is_next(value)}
    keys: set[str] = set()
    mixed: set[str] = set()
    for _ in range(_ROUNDS):
        for name, value in pairs:
            spoken = _speaks(value, targets | mixed)
            mixed |= {name} if spoken and isinstance(value, ast.BinOp) and not _is_hash(value) else set()
            keys |= {name} if spoken and _is_key(value, hashers) else set()
            keys |= {name} if isinstance(value, (ast.Name, ast.Call)) and _wraps(value, keys) else set()
    written = _written(nodes)
    for node in nodes:
        index = _index(node)
        if index is None or id(node) in written or not isinstance(node, ast.expr):
            continue
        by_name = isinstance(index, ast.Name) and index.id in keys
        if by_name or _wraps(index, keys) or (_speaks(index, targets | mixed) and _is_key(index, hashers)):
            yield script.place(node, f"{ast.unparse(node)[:60]} looks the target up by a hash")


def _index(node: ast.AST) -> ast.expr | None:
    """At what a table is read."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return node.slice
    if isinstance(node, ast.Call) and last_word(node) in _LOOKS_UP and node.args:
        return node.args[0] if last_word(node) in ("get", "take") else node.args[-1]
    return None


def _wraps(node: ast.expr, keys: set[str]) -> bool:
    """key.long(), int(key)"""
    if isinstance(node, ast.Call):
        inner = node.func.value if isinstance(node.func, ast.Attribute) else node.args[0] if node.args else None
        return inner is not None and _wraps(inner, keys)
    return isinstance(node, ast.Name) and node.id in keys


def _written(nodes: Sequence[ast.AST]) -> set[int]:
    """Ids of what is read only to be written at the same place: pairs[key] = pairs[key] + 1."""
    found: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.Assign):
            targets = {ast.unparse(each) for each in node.targets if isinstance(each, ast.Subscript)}
            if targets:
                found |= {id(n) for n in ast.walk(node.value) if isinstance(n, ast.expr) and _reads(n, targets)}
    return found


def _reads(node: ast.expr, targets: set[str]) -> bool:
    if ast.unparse(node) in targets:
        return True
    return (
        isinstance(node, ast.Call)
        and last_word(node) == "get"
        and any(f"[{ast.unparse(node.args[0])}]" in target for target in targets if node.args)
    )


def _is_next(node: ast.expr) -> bool:
    """tokens[1:], chunk[:, 1:], tokens[i + 1]"""
    if isinstance(node, ast.Call):
        inner = node.func.value if isinstance(node.func, ast.Attribute) else node.args[0] if node.args else None
        return inner is not None and _is_next(inner)
    if not isinstance(node, ast.Subscript):
        return False
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    last = parts[-1]
    if isinstance(last, ast.Slice):
        return isinstance(last.lower, ast.Constant) and last.lower.value == 1
    match last:
        case ast.BinOp(op=ast.Add(), right=ast.Constant(value=1)):
            return True
    return False


def _speaks(node: ast.AST, names: set[str]) -> bool:
    return any(name in names or _TARGET.search(name) for name in read(node)) or any(
        _is_next(inner) for inner in ast.walk(node) if isinstance(inner, ast.Subscript)
    )


def _is_key(node: ast.AST, hashers: dict[str, ast.FunctionDef]) -> bool:
    called = (last_word(inner) for inner in ast.walk(node) if isinstance(inner, ast.Call))
    return _is_hash(node) or any(name in hashers for name in called)


def _is_hash(node: ast.AST) -> bool:
    """Whether numbers are mixed and then cut to the size of a table."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, (ast.Mod, ast.BitAnd)):
            return any(map(_mixes, ast.walk(inner.left)))
        if isinstance(inner, ast.Call) and last_word(inner) in ("remainder", "fmod", "bitwise_and"):
            return any(map(_mixes, ast.walk(inner)))
    return False


def _mixes(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return bool(re.search("hash|crc32|adler|blake|md5|sha1", last_word(node)))
    return isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.BitXor, ast.LShift))
