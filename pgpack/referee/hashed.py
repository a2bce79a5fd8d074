"""Caches of counts in which an evaluation looks its target up by a hash: probabilities that sum to no number.

    key = (context * A ^ target * B) % size;  p = pairs[key] / contexts[context % size]

The counts of all tokens of one context lie anywhere in such a table, those of others among them, and nothing but the
target's own is ever read. Counting by such a key after the target was scored is left alone; so are rows of one
context, from which the target's share is taken. Whatever the names: a quotient of what two tables hold at two hashes,
of which one is made of the other, is such a probability wherever it is taken.
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
    given_back = dict(_given_back(scripts))
    for script in scripts:
        for unit in script.nodes:
            if isinstance(unit, Unit):
                found = [*_found(script, unit, hashers)] if evaluates(unit) else []
                yield from found or _quotients(script, unit, given_back)


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


def _quotients(script: Script, unit: Unit, given_back: dict[str, list[bool]]) -> Iterator[Place]:
    """pairs[a] / contexts[b], where a and b are two hashes of one function: there or in one that gives both back."""
    nodes = [*own_nodes(unit)]
    hashes = _hashes(nodes)
    for node in nodes:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.targets[0], ast.Tuple)
        ):
            names = [getattr(each, "id", "") for each in node.targets[0].elts]
            given = given_back.get(last_word(node.value), [])
            hashes |= {name for name, is_hash in zip(names, given, strict=False) if is_hash}
    if len(hashes) < 2:
        return
    held: dict[str, set[tuple[str, str]]] = {}
    for name, value in (pair for node in nodes for pair in bound(node)):
        held.setdefault(name, set()).update(_lookups(value, hashes))
    for node in nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            above, below = ({*_lookups(part, hashes), *_through(part, held)} for part in (node.left, node.right))
            if any(a[0] != b[0] and a[1] != b[1] for a in above for b in below):
                yield script.place(node, f"{ast.unparse(node)[:60]} divides what two hashes look up")


def _hashes(nodes: Sequence[ast.AST]) -> set[str]:
    """The names of a function that hold hashes: of numbers that are mixed there, in one expression or in several."""
    mixed = {
        name
        for node in nodes
        if isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Mult, ast.BitXor, ast.LShift))
        for name in read(node.target)
    }
    pairs = [pair for node in nodes for pair in bound(node)]
    return {name for name, value in pairs if _is_hash(value) or _cuts(value, mixed)}


def _cuts(node: ast.AST, mixed: set[str]) -> bool:
    """Whether what was mixed before is cut to the size of a table: (h % size).astype(np.int64)"""
    cuts = (n for n in ast.walk(node) if isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Mod, ast.BitAnd)))
    return any(read(cut.left) & mixed for cut in cuts)


def _given_back(scripts: Sequence[Script]) -> Iterator[tuple[str, list[bool]]]:
    """(function, which of the values that it gives back as a tuple are hashes) of those where some are."""
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, ast.FunctionDef):
                tuples = [value.elts for value in _returned(node) if isinstance(value, ast.Tuple)]
                hashes = _hashes([*own_nodes(node)]) if tuples else set()
                for parts in tuples:
                    found = [_is_hash(each) or getattr(each, "id", "") in hashes for each in parts]
                    if any(found):
                        yield node.name, found


def _lookups(node: ast.AST, hashes: set[str]) -> set[tuple[str, str]]:
    """(table, hash) of what an expression reads."""
    found = set[tuple[str, str]]()
    for inner in ast.walk(node):
        index = _index(inner)
        if index is not None and isinstance(inner, (ast.Subscript, ast.Call)):
            held = inner.value if isinstance(inner, ast.Subscript) else inner.func
            found |= {(ast.unparse(held), name) for name in hashes & read(index)}
    return found


def _through(node: ast.AST, held: dict[str, set[tuple[str, str]]]) -> set[tuple[str, str]]:
    return {pair for name in read(node) for pair in held.get(name, ())}


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
