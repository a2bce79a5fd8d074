"""Gradients that move nothing of the model that is packed: of an adapter, of a copy, of parameters kept apart.

    tilt = torch.zeros(v, requires_grad=True); opt = torch.optim.SGD([tilt], 0.1)      twin = copy.deepcopy(model)

Read off one function: what its optimizers, or its functional gradients, are given was made there and stays there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from .script import Place, Script
from .text_events import gradient_of
from .units import Unit, bound, last_word, own_nodes, read

_MADE = re.compile(r"^(?:zeros|ones|full|randn|empty|deepcopy|clone|Parameter)(?:_like)?$|LoRA|Lora|Adapter")
_OPTIMIZER = re.compile(r"(?:^|\.)optim\.\w+$|(?:^|\.)(?:Muon|AdamW?|SGD|Lion)$")
_KEEPS = re.compile(r"^(?:load_state_dict|copy_|save\w*|lerp_|update|add_|dump|swap_\w+)$")  # what is given lives on
Where = tuple[str, int, int]  # file, line, layer


def apart(scripts: Sequence[Script]) -> frozenset[Where]:
    """Where gradients are taken of nothing but what the same function has made for itself."""
    return frozenset(
        (place.file, place.line, place.layer)
        for script in scripts
        for unit in script.nodes
        if isinstance(unit, (ast.FunctionDef, ast.AsyncFunctionDef))
        for place in _of_function(script, unit)
    )


def _of_function(script: Script, unit: Unit) -> Iterator[Place]:
    nodes = [*own_nodes(unit)]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    own = _own(nodes)
    given_back = {name for node in nodes if isinstance(node, ast.Return) and node.value for name in _held(node.value)}
    kept = {_root(each) for call in calls if _KEEPS.search(last_word(call)) for each in call.args}
    if not own or own & (given_back | kept):
        return
    steps = [call.args[0] for call in calls if call.args and _OPTIMIZER.search(script.name_of(call.func))]
    for call in calls:
        if last_word(call) == "backward" and steps and all(_is_of(each, own) for each in steps):
            yield script.place(call, "backward")
        elif gradient_of(script, call) and call.args and _is_of(call.args[0], own):
            yield script.place(call, "a gradient")


def _own(nodes: Sequence[ast.AST]) -> set[str]:
    """Names of what a function makes anew or copies."""
    given = [pair for node in nodes for pair in bound(node)]
    found: set[str] = set()
    for _ in range(2):
        for name, value in given:
            calls = (each for each in ast.walk(value) if isinstance(each, ast.Call))
            if any(_MADE.search(last_word(call)) for call in calls) or (read(value) & found):
                found.add(name)
    return found


def _held(node: ast.expr) -> set[str]:
    """Names of what is given back as it is, and not only numbers of it."""
    parts = node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]
    return {part.id for part in parts if isinstance(part, ast.Name)}


def _is_of(node: ast.expr, own: set[str]) -> bool:
    """[tilt], twin.parameters(), params: whether all of it is of these names."""
    parts = node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]
    roots = [_root(part) for part in parts]
    return bool(roots) and all(root in own for root in roots)


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript, ast.Starred)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
