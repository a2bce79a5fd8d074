"""One function of a script: its own nodes, what its names are given, what speaks of the predicted token."""

from __future__ import annotations

import ast
import functools
import re
from collections import deque
from collections.abc import Iterator, Sequence

from .script import Script

Unit = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module
_TARGET = re.compile(
    r"^(?:y\w?|tgts?|targets?|labels?|golds?|truth|actual|nxt|next|symbols?|\w+_(?:tok(?:en)?s?|targets?|tgts?|labels?|y)|"
    r"(?:y|tgt|targets?)_\w+|t|tok|token|tokens?|c|w|ids?)$"
)


_SCORES = re.compile(r"eval|score|valid|test|bpb|ttt|perplex|measure|nll|mix")
_LAYER = re.compile(r"layer_norm|rms_norm|softmax\(|scaled_dot_product|dot_product_attention|\bgelu|\bsilu|einsum")
_NO_LAYER = re.compile(
    r"cross_entropy|nll|loss|open\(|glob|fromfile|print|entropy|optim|step\(|argmax|log2|targets?\b"
)
UNITS_KEPT = 2048
_UNGRADED = ("no_grad", "inference_mode")


@functools.lru_cache(maxsize=UNITS_KEPT)  # nearly every rule asks for those of every function
def own_nodes(unit: Unit) -> tuple[ast.AST, ...]:
    """The nodes of a function, or of a file, without those of functions in it."""
    found, left = list[ast.AST](), deque(ast.iter_child_nodes(unit))
    while left:
        node = left.popleft()
        found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            left += ast.iter_child_nodes(node)
    return tuple(found)


def bound(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """(name, what it is given) of an assignment or of what a loop goes through, of pairs one by one."""
    match node:
        case ast.Assign(targets=targets, value=value):
            pairs = [(target, value) for target in targets]
        case ast.For(target=target, iter=value) | ast.NamedExpr(target=target, value=value):
            pairs = [(target, value)]
        case _:
            pairs = []
    for target, value in pairs:
        if not isinstance(target, (ast.Tuple, ast.List)):
            yield from [(target.id, value)] if isinstance(target, ast.Name) else []
            continue
        is_zip = isinstance(value, ast.Call) and last_word(value) == "zip"
        given = value.args if isinstance(value, ast.Call) and is_zip else getattr(value, "elts", [])
        apart = len(given) == len(target.elts)
        for i, part in enumerate(target.elts):
            if isinstance(part, ast.Name):
                yield part.id, given[i] if apart else value


def layers_of_functions(scripts: Sequence[Script]) -> Iterator[tuple[Script, Unit]]:
    """(script, function) of a model without modules: functions that give states back, called by those that norm,
    attend or multiply; none where a class is a module, and none that speak of losses, steps or files."""
    for script in scripts:
        if any(isinstance(n, ast.ClassDef) and "Module" in ast.unparse(ast.Tuple(n.bases)) for n in script.nodes):
            return
    for script in scripts:
        functions = [n for n in script.nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        layers = [each for each in functions if not _NO_LAYER.search(ast.unparse(each))]
        models = [each for each in layers if _LAYER.search(ast.unparse(each))]
        called = {last_word(n) for each in models for n in ast.walk(each) if isinstance(n, ast.Call)}
        yield from ((script, each) for each in layers if each in models or each.name in called)


def read(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def last_word(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def last_of(node: ast.expr) -> str:
    return last_word(node) if isinstance(node, ast.Call) else ""


def is_of_evaluations(call: ast.Call, assigned: Sequence[tuple[str, ast.expr]]) -> bool:
    """min(evaluate(model, temperature=t) for t in (0.9, 1.0)), there or in a name: the best of several."""
    first = call.args[0] if call.args else None
    given = [value for name, value in assigned if name == first.id] if isinstance(first, ast.Name) else [first]
    made = [each.elt for each in given if isinstance(each, (ast.GeneratorExp, ast.ListComp))]
    return any("eval" in last_of(e) for each in made for e in ast.walk(each) if isinstance(e, ast.Call))


def speaks_of_target(node: ast.AST) -> bool:
    """Whether an index or an argument is the token that is predicted."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    for part in parts:
        while isinstance(part, (ast.Subscript, ast.Call)):
            part = part.value if isinstance(part, ast.Subscript) else getattr(part.func, "value", ast.Constant(0))
        if isinstance(part, ast.Name) and _TARGET.search(part.id):
            return True
    return False


def evaluates(unit: Unit) -> bool:
    """Whether a function evaluates, by its name or because it computes no gradients; a file may."""
    if isinstance(unit, ast.Module) or _SCORES.search(unit.name.lower()):
        return True
    return any(
        isinstance(node, (ast.Name, ast.Attribute)) and getattr(node, "attr", getattr(node, "id", "")) in _UNGRADED
        for node in own_nodes(unit)
    )
