"""Layers that mix positions by a matrix over time which nothing keeps from looking ahead.

    (q @ k.transpose(-1, -2)).softmax(-1) @ v      tril(ones(t, t), diagonal=1)      (i - j).abs() < w
    self.across(x.transpose(1, 2)).transpose(1, 2)      expert.topk(t // 4, dim=1), then gather

Read off classes of modules. Where a class speaks of any mask at all, of triangles or of causality, attention that is
written by hand is not decided and says nothing; so is attention whose keys are parameters.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from .script import Place, Script, keyword
from .units import Unit, bound, last_of, last_word, layers_of_functions, own_nodes, read

_HIDES = re.compile(
    r"mask|tril|triu|-?inf\b|causal|\bwhere\(|finfo|1e4|1e9|bias|cumsum|cumprod|decay|scan|roll|\.tri\(|block_sparse|>=|<="
)
_TURNED = re.compile(r"\.(?:transpose\((?:-2, ?-1|-1, ?-2|2, ?3|3, ?2|1, ?2|2, ?1)\)|mT|permute\([^)]*\)|T)$")
_QUERY = re.compile(r"^(?:\w*_)?(?:q|k|query|queries|keys?|qh|kh|qs|ks|q\d|k\d|qry|qq|kk)(?:_\w+)?$", re.I)
_SOFT = ("softmax", "sigmoid", "softmax_one", "exp", "relu")
_STATES = re.compile(r"^(?:x|h|u|z|y|hs|xs|inp|inputs?|hidden\w*|states?|x_\w+|h_\w+)$")
_WHOLE_LAYERS = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder")
_MOVES = {"gather", "scatter", "scatter_add", "scatter_", "scatter_add_", "index_add", "take_along_dim"}
_TIME_SIZES = re.compile(r"size\((?:1|-2)\)|shape\[(?:1|-2)\]|\bt\b|\bT\b|seq|capacity|length", re.I)


def mixes_ahead(scripts: Sequence[Script]) -> Iterator[Place]:
    """Where a layer of a module gives a position what stands behind it."""
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, ast.ClassDef) and _is_module(node):
                yield from _of_class(script, node)
        around = {id(item): node for node in script.nodes if isinstance(node, ast.ClassDef) for item in node.body}
        for function in script.nodes:
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _of_masks(script, function, around.get(id(function)))
    for script, function in layers_of_functions(scripts):
        if not _HIDES.search(ast.unparse(function)):
            for each in _bare([*own_nodes(function)]):
                yield script.place(each, f"{ast.unparse(each)[:60]} attends without a mask")


def _without_unused(script: Script, node: ast.ClassDef) -> str:
    """What a class does, without what it makes and nobody uses: self.mask = tril(...), a buffer, a local name."""
    used = {n.attr for n in script.nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    asked = (
        n for n in script.nodes if isinstance(n, ast.Call) and last_word(n) in ("getattr", "get_buffer", "hasattr")
    )
    used |= {str(each.value) for call in asked for each in call.args if isinstance(each, ast.Constant)}
    kept: list[ast.AST] = [
        part for part in ast.walk(node) if isinstance(part, (ast.stmt, ast.arguments)) and not hasattr(part, "body")
    ]
    kept += [
        part for each in ast.walk(node) for part in (getattr(each, "test", None), getattr(each, "iter", None)) if part
    ]
    kept += [each.context_expr for each in ast.walk(node) if isinstance(each, ast.withitem)]
    for _ in range(2):
        told = {
            n.id for part in kept for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
        }
        kept = [part for part in kept if not _is_unused(part, used, told)]
    names = [each.name for each in ast.walk(node) if isinstance(each, (ast.FunctionDef, ast.ClassDef))]
    return "\n".join([*names, *(ast.unparse(ast.fix_missing_locations(part)) for part in kept)])


def _is_unused(part: ast.AST, used: set[str], told: set[str]) -> bool:
    """Whether a statement only makes what is not in `used`, attributes, nor in `told`, names."""
    match part:
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(attr="register_buffer"), args=[ast.Constant(value=name), *_])
        ):
            return name not in used
        case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)]):
            return name not in used
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name not in told
        case ast.Expr(value=ast.Constant()):
            return True  # what it says of itself
    return False


def _is_module(node: ast.ClassDef) -> bool:
    return any(getattr(item, "name", "") in ("forward", "__call__", "logits") for item in node.body)


def _of_class(script: Script, node: ast.ClassDef) -> Iterator[Place]:
    hides = bool(_HIDES.search(re.sub(r"bias=\w+", "", _without_unused(script, node))))
    linear = {
        target.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Assign) and last_of(each.value) in ("Linear", "CastedLinear")
        for target in each.targets
        if isinstance(target, ast.Attribute)
    }
    for each in ast.walk(node) if not hides else ():
        if isinstance(each, ast.Call) and last_word(each) in _WHOLE_LAYERS:
            yield script.place(each, f"{ast.unparse(each)[:60]} is never given a mask")
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            nodes = [*own_nodes(item)]
            if not hides:
                found = [(each, "mixes all of time") for each in _full(nodes)]
                found += [(each, "attends without a mask") for each in _bare(nodes)]
                yield from (script.place(each, f"{ast.unparse(each)[:60]} {what}") for each, what in found)
            for each in nodes:
                if isinstance(each, ast.Call) and (why := _why(each, nodes, linear, hides)):
                    yield script.place(each, f"{ast.unparse(each)[:60]} {why}")


def _full(nodes: Sequence[ast.AST]) -> Iterator[ast.expr]:
    """self.across @ x, einsum("bsd,st->btd", x, self.across): a matrix over positions, of a parameter."""
    for node in nodes:
        match node:
            case ast.BinOp(op=ast.MatMult(), left=left, right=ast.Name(id=name)) if _is_own(left) and _STATES.match(
                name
            ):
                yield node
            case ast.Call(args=[ast.Constant(value=str(text)), ast.Name(), weight]) if (
                last_word(node) == "einsum" and _is_own(weight) and _over_time(text)
            ):
                yield node


def _is_own(node: ast.expr) -> bool:
    """self.across, self.across[:t, :t]"""
    while isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _over_time(text: str) -> bool:
    """bsd,st->btd: the second axis of the first is summed over, and another one stands there."""
    found = re.match(r"^\s*(\w)(\w)(\w+)\s*,\s*(\w+)\s*->\s*(\w)(\w)(\w+)\s*$", text)
    if found is None:
        return False
    batch, time, rest, weight, kept, new, last = found.groups()
    return (batch, rest) == (kept, last) and {*weight} == {time, new} and time != new


def _bare(nodes: Sequence[ast.AST]) -> Iterator[ast.expr]:
    """Weights of attention that nothing was hidden from: softmax of products of queries and keys, then a product."""
    given = [pair for node in nodes for pair in bound(node)]
    scores = {name for name, value in given if _is_product(value, given)}
    if _is_changed(nodes, scores):
        return
    weights = {name for name, value in given if _is_softmax(value, scores, given)}
    for node in nodes:
        is_product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
        is_sum = isinstance(node, ast.Call) and last_word(node) in ("einsum", "matmul", "bmm")
        if isinstance(node, ast.expr) and (is_product or is_sum):
            parts = [node.left] if isinstance(node, ast.BinOp) else getattr(node, "args", [])
            if any(_is_softmax(part, scores, given) or read(part) & weights for part in parts):
                yield node
                return


def _is_changed(nodes: Sequence[ast.AST], scores: set[str]) -> bool:
    """Whether something is added to scores, put into them, or they are given to what may hide a part of them."""
    for node in nodes:
        match node:
            case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right):
                pair = [left, right]
                changed = any(read(each) & scores or _is_product(each, []) for each in pair)
                if changed and not any(_is_number(each) or _is_even(each) for each in pair):
                    return True
            case ast.AugAssign(op=ast.Add() | ast.Sub(), target=target) if read(target) & scores:
                return True
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name)), *_]) if name in scores:
                return True
            case ast.Call(func=ast.Name() | ast.Attribute(value=ast.Name(id="self")), args=args):
                if any(isinstance(each, ast.Name) and each.id in scores for each in args):
                    return last_word(node) not in _SOFT
    return False


def _is_even(node: ast.expr) -> bool:
    """slope * (i[:, None] - i).abs(): as much for what follows as for what went before."""
    text = ast.unparse(node)
    return bool(re.search(r"\babs\(|\.abs\(\)|\*\* ?2|square", text)) and bool(re.search(r"None|unsqueeze", text))


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or last_of(node) in ("max", "amax", "detach", "item")


def _is_softmax(node: ast.expr, scores: set[str], given: Sequence[tuple[str, ast.expr]]) -> bool:
    if not isinstance(node, ast.Call) or last_word(node) not in _SOFT:
        return False
    held = [node.func.value] if isinstance(node.func, ast.Attribute) else []
    return any(
        isinstance(each, ast.expr) and (bool(read(each) & scores) or _is_product(each, given))
        for each in (*held, *node.args[:1])
    )


def _is_product(node: ast.AST, given: Sequence[tuple[str, ast.expr]]) -> bool:
    """q @ k.transpose(-1, -2), einsum("bhqd,bhkd->bhqk", q, k), either scaled."""
    for each in ast.walk(node):
        if isinstance(each, ast.BinOp) and isinstance(each.op, ast.MatMult):
            pair = [each.left, each.right]
        elif isinstance(each, ast.Call) and last_word(each) in ("matmul", "bmm", "baddbmm") and len(each.args) > 1:
            pair = [*each.args[-2:]]
        elif isinstance(each, ast.Call) and last_word(each) == "einsum" and _contracts(each):
            if all(map(_is_query, each.args[1:3])):
                return True
            continue
        else:
            continue
        turned = [part for part in pair if _TURNED.search(ast.unparse(part))]
        turned += [part for part in pair if isinstance(part, ast.Name) and _is_turned(part.id, given)]
        if turned and all(map(_is_query, pair)):
            return True
    return False


def _is_turned(name: str, given: Sequence[tuple[str, ast.expr]]) -> bool:
    return any(its == name and _TURNED.search(ast.unparse(value)) for its, value in given)


def _contracts(call: ast.Call) -> bool:
    """bhqd,bhkd->bhqk: what is left of each are its own positions, two letters that are not in the other."""
    text = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
    found = re.match(r"^\s*(\w+)\s*,\s*(\w+)\s*->\s*(\w+)\s*$", text) if isinstance(text, str) else None
    if found is None or len(call.args) < 3:
        return False
    one, other, out = (set(part) for part in found.groups())
    return len(out - one) == 1 and len(out - other) == 1 and bool((one & other) - out)


def _is_query(node: ast.expr) -> bool:
    """Whether a name says that it is of queries or keys, and of no parameter."""
    while isinstance(node, (ast.Call, ast.Attribute, ast.Subscript, ast.BinOp)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self":
            return False
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
            return False
        inner = node.left if isinstance(node, ast.BinOp) else node.func if isinstance(node, ast.Call) else node.value
        node = inner
    return isinstance(node, ast.Name) and bool(_QUERY.match(node.id))


def _why(call: ast.Call, nodes: Sequence[ast.AST], linear: set[str], hides: bool) -> str:
    """What is wrong with a call of a module, '' for nothing."""
    match call:
        case ast.Call(
            func=ast.Attribute(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=layer), args=[inner]), attr=back
            )
        ) if layer in linear and not hides and back in ("transpose", "permute", "mT", "swapaxes"):
            turned = last_of(inner) in ("transpose", "permute", "swapaxes") and _axes(inner) == _axes(call) == {1, 2}
            return "is a layer over time that sees all of it" if turned else ""
    if last_word(call) == "topk" and _along_time(call) and _gathers(nodes):
        return "chooses among all positions of the sequence"
    return ""


def _axes(node: ast.expr) -> set[int]:
    found = {each.value for each in getattr(node, "args", []) if isinstance(each, ast.Constant)}
    return {axis for axis in found if isinstance(axis, int)}


def _along_time(call: ast.Call) -> bool:
    """scores.topk(t // 4, dim=1): as many as grow with the sequence, along it."""
    of_library = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "torch"
    given = call.args[1:] if of_library else call.args
    axis = keyword(call, "dim") or (given[1] if len(given) > 1 else None)
    size = keyword(call, "k") or (given[0] if given else None)
    is_time = isinstance(axis, ast.Constant) and axis.value == 1
    return is_time and size is not None and bool(_TIME_SIZES.search(ast.unparse(size)))


def _gathers(nodes: Sequence[ast.AST]) -> bool:
    called = {last_word(node) for node in nodes if isinstance(node, ast.Call)}
    return bool(
        called & {"gather", "scatter", "scatter_add", "scatter_", "scatter_add_", "index_add", "take_along_dim"}
    )


def _of_masks(script: Script, function: Unit, around: ast.ClassDef | None) -> Iterator[Place]:
    """Masks that let a position see the next ones: a diagonal too far, distances without a sign."""
    nodes = [*own_nodes(function)]
    text = "\n".join(ast.unparse(item) for item in function.body)
    told = f"{text}{getattr(function, 'name', '') if 'mask' in getattr(function, 'name', '') else ''}"
    told += ast.unparse(around) if around is not None and getattr(function, "name", "") == "__init__" else ""
    attends = bool(re.search(r"scaled_dot_product_attention|softmax|attn|attention|masked_fill|mask\b", told))
    names = [each.arg for each in function.args.args] if not isinstance(function, ast.Module) else []
    attends = attends or {"q_idx", "kv_idx"} <= {*names}
    for node in nodes if attends else ():
        if isinstance(node, ast.Call) and last_word(node) in ("tril", "triu", "tri") and _is_too_far(node):
            yield script.place(node, f"{ast.unparse(node)[:60]} lets a position see the next one")
    signed = re.search(r"tril|triu|is_causal=True|causal=True|-inf.*triu|&|logical_and|>=\s*\w", text)
    for node in nodes if attends and not signed else ():
        if isinstance(node, ast.Compare) and _is_distance(node):
            yield script.place(node, f"{ast.unparse(node)[:60]} lets a position see later ones")


def _is_too_far(call: ast.Call) -> bool:
    """tril(ones(t, t), 1), triu(ones(t, t), 2): of what is square."""
    of_owner = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call)
    given = call.args if of_owner else call.args[1:]
    place = keyword(call, "diagonal") or keyword(call, "k") or (given[0] if given else None)
    made = (
        call.func.value
        if of_owner and isinstance(call.func, ast.Attribute)
        else (call.args[0] if call.args else None)
    )
    number = place.value if isinstance(place, ast.Constant) else None
    limit = {"tril": 1, "triu": 2, "tri": 1}[last_word(call)]
    if not isinstance(number, int) or number < limit or not isinstance(made, ast.Call):
        return False
    sizes = [ast.unparse(each) for each in made.args[:2]]
    return last_word(made) in ("ones", "full", "ones_like") and (
        len(sizes) < 2 or sizes[0] == sizes[1] or "(" in sizes[0]
    )


def _is_distance(node: ast.Compare) -> bool:
    """(i[:, None] - i[None]).abs() < w"""
    left = node.left
    if last_of(left) != "abs" or not isinstance(left, ast.Call) or not isinstance(node.ops[0], (ast.Lt, ast.LtE)):
        return False
    held = [left.func.value] if isinstance(left.func, ast.Attribute) and not left.args else left.args[:1]
    inner = held[0] if held else None
    if not isinstance(inner, ast.BinOp) or not isinstance(inner.op, ast.Sub):
        return False
    sides = [ast.unparse(side) for side in (inner.left, inner.right)]
    across = any("None" in side or "unsqueeze" in side for side in sides)
    return across or all(re.search(r"idx|pos|^[ijqk]$|q_|kv_", side) for side in sides)
