"""Attention that sees what comes next where a model is evaluated: causality or a mask that hangs on the mode.

    is_causal=self.training      if not self.training: mask = None      model.attn.causal = False

What is known is read off the calls of attention, the names that they are given and the tests around them. Left alone:
dropout and windows by the mode, queries of one token, masks that are computed, attention that is given any mask.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache

from .script import Place, Script, calls, keyword

_ATTENTION = re.compile(
    r"scaled_dot_product_attention$|flash_attn\w*_func$|flash_attn\w*$|memory_efficient_attention$"
)
_CAUSAL = ("is_causal", "causal")
_MASK = re.compile(r"mask|bias|causal|tril|triu")
_MODES = ("training", "is_grad_enabled", "is_inference_mode_enabled", "is_inference_mode", "is_inference")
_HIDES = re.compile(r"masked_fill|tril|triu|-inf|float\(.-inf|causal|attn_mask")


def sees_ahead(scripts: Sequence[Script]) -> Iterator[Place]:
    """Where attention is causal only while the model trains, or not at all."""
    for script, call, name in calls(scripts):
        if _ATTENTION.search(name.rpartition(".")[2] or name) and (why := _why(scripts, script, call)):
            yield script.place(call, why)
    for script in scripts:
        attends = any(_ATTENTION.search(name) or name.endswith("softmax") for *_, name in calls([script]))
        for node in script.nodes if attends else ():
            if isinstance(node, ast.If) and _is_of_mode(script, node.test) and _hides_once(node):
                yield script.place(node, f"if {ast.unparse(node.test)[:40]}: a mask is there in one mode alone")


def _why(scripts: Sequence[Script], script: Script, call: ast.Call) -> str:
    """What is wrong with a call of attention, '' for nothing."""
    causal = next((value for name in _CAUSAL if (value := keyword(call, name)) is not None), None)
    mask = keyword(call, "attn_mask") or keyword(call, "attn_bias") or (call.args[3] if len(call.args) > 3 else None)
    for what, given in (("causal", causal), ("a mask", mask)):
        if given is not None and _hangs_on_mode(script, given):
            return f"{ast.unparse(given)[:40]}: {what} in one mode alone"
    if isinstance(causal, ast.Attribute) and (changed := _set_false(scripts, causal.attr)) is not None:
        return f"{ast.unparse(causal)} is false after {changed}"
    mask = None if isinstance(mask, ast.Constant) else mask  # None, or the dropout of flash's fourth argument
    last = call.args[5] if causal is None and len(call.args) > 5 else causal  # the sixth of torch's and of flash's
    is_false = (isinstance(last, ast.Constant) and last.value is False) or (
        last is None and _by_default(script, call)
    )
    return "attention that is never causal and has no mask" if is_false and mask is None and _is_own(call) else ""


def _by_default(script: Script, call: ast.Call) -> bool:
    """Whether nothing more is said of how a sequence attends to itself: neither here nor for one token at a time."""
    told = [item.arg or "" for item in call.keywords]
    if any(not name or re.search(r"mask|window|block|causal", name) for name in told) or "cache" in ast.unparse(call):
        return False
    around = (n for n in script.nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    inside = [n for n in around if n.lineno <= call.lineno <= (n.end_lineno or 0)]
    return not any(re.search(r"step|decode|generate|cache|cross|encode", n.name) for n in inside)


def _is_own(call: ast.Call) -> bool:
    """Whether queries and keys are of one sequence: q, k, v by those names."""
    given = [ast.unparse(each) for each in call.args[:2]]
    return len(given) == 2 and all(re.match(r"(?:\w+_)?[qk](?:\d|_\w+)?$", each) for each in given)


def _is_of_mode(script: Script, node: ast.AST) -> bool:
    """Whether an expression asks if the model is trained or evaluated."""
    return _names_mode(node, _modes(script))


def _names_mode(node: ast.AST, names: Set[str]) -> bool:
    return any(
        (isinstance(inner, ast.Name) and (inner.id in names or inner.id in _MODES))
        or (isinstance(inner, ast.Attribute) and inner.attr in _MODES)
        for inner in ast.walk(node)
    )


@lru_cache(maxsize=8)
def _modes(script: Script) -> Set[str]:
    """Names that stand for the mode itself, or for such a name: eval_mode = not self.training."""
    found: Set[str] = frozenset()
    for _ in range(2):
        found = {name for name, given in script.values.items() if any(_asks(each, found) for each in given)}
    return found


def _asks(node: ast.expr, names: Set[str]) -> bool:
    """c = bool(self.training), d = not c"""
    while isinstance(node, (ast.UnaryOp, ast.Call)):
        inner = node.operand if isinstance(node, ast.UnaryOp) else node.args[0] if node.args else node.func
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") != "bool" and node.args:
            return False
        node = inner
    return isinstance(node, (ast.Attribute, ast.Name)) and _names_mode(node, names)


def _hangs_on_mode(script: Script, node: ast.expr) -> bool:
    """self.training, mask if self.training else None; or a name that was given such a thing."""
    if isinstance(node, ast.IfExp):
        return _is_of_mode(script, node.test)
    if isinstance(node, ast.Name):
        return any(
            isinstance(v, ast.IfExp) and _hangs_on_mode(script, v) for v in script.values.get(node.id, ())
        ) or (_is_of_mode(script, node))
    return isinstance(node, (ast.Attribute, ast.Call, ast.UnaryOp, ast.BoolOp)) and _is_of_mode(script, node)


def _set_false(scripts: Sequence[Script], name: str) -> str | None:
    """Where an attribute that is true elsewhere is set to what may be false, None where it is not."""
    given = [
        (script, node, node.value, ast.unparse(target.value) != "self")
        for script in scripts
        for node in script.nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and target.attr == name
    ]
    for script, node, value, from_outside in given:
        is_false = isinstance(value, ast.Constant) and not value.value
        by_mode = isinstance(value, ast.Name) and value.id == "mode"
        if (is_false and (from_outside or len(given) > 1)) or by_mode or _is_of_mode(script, value):
            return str(script.place(node, ast.unparse(node)[:60]))
    return None


def _hides_once(node: ast.If) -> bool:
    """Whether one branch hides what comes next, or drops what does, and the other does not."""
    hides = [any(map(_hides, body)) for body in (node.body, node.orelse)]
    drops = [any(_drops(each) for part in body for each in ast.walk(part)) for body in (node.body, node.orelse)]
    returns = [any(isinstance(part, ast.Return) for part in body) for body in (node.body, node.orelse)]
    return drops[0] != drops[1] or (hides[0] != hides[1] and not any(returns) and bool(_scores(node)))


def _hides(node: ast.AST) -> bool:
    return bool(_HIDES.search(ast.unparse(node)))


def _scores(node: ast.If) -> bool:
    """Whether what is masked is attention's scores or its mask."""
    targets = (t for n in ast.walk(node) if isinstance(n, ast.Assign) for t in n.targets)
    return any(re.search(r"att|score|sim|mask|logit|qk|\bw\b", ast.unparse(each).lower()) for each in targets)


def _drops(node: ast.AST) -> bool:
    """mask = None, causal = False"""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
        return False
    names = (ast.unparse(each).lower() for each in node.targets)
    return not node.value.value and any(
        re.search(r"attn_mask|causal|(?:^|[._])m(?:ask)?$|attn_bias", n) for n in names
    )
