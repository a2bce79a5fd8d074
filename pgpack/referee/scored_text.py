"""Where a script or a log learns from the text that it is scored on: calibration, and training before packing.

Legal test-time training updates after scoring, on packed weights. What is looked for here comes before: updates on
validation text, and only then a quantizer or `torch.save`. Order is that of the lines, so a script is only warned of;
a log or a switch that says so is a confession.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from .script import Place, Script, calls

_EVALUATED = ("val_tokens", "val_data", "val_loader", "validation", "val_files", "val_pattern", "valid_")
_PRE_QUANT = re.compile(
    r"(?:pre[-_ ]?(?:quant\w*|gptq|export|pack\w*)[-_ ]{0,3}(?:\w{0,12}[-_ ]){0,2}ttt|"
    r"ttt[-_ ]{0,3}(?:\w{0,12}[-_ ])?(?:pre|before)[-_ ]{0,3}(?:quant|gptq|export|pack))", re.I,
)  # fmt: skip
_OFF = re.compile(
    r"(?:enabled?|active|use)?['\"]?\s*[:=]\s*(?:false|0|off|no|none|disabled)\b|\bdisabled\b|\boff\b", re.I
)
_DENIED = re.compile(r"\b(?:no|not|never|without|instead of|unlike|illegal|removed?|isn't|don't|skip\w*)\b", re.I)
_FINETUNED = re.compile(
    r"(?:fine-?tun\w*|adapt(?:ed|ing|ation)?|train(?:ed|ing)?|updat(?:ed|es|ing))\b[^.\n]{0,60}\bon\b[^.\n]{0,40}"
    r"(?:fineweb_val|val_tokens|validation (?:text|tokens|data|set|shards?)|the val(?:idation)? set)", re.I,
)  # fmt: skip
_TRAIN_ON_VAL = re.compile(r"train\w*[^\n]{0,80}fineweb_val", re.I)
_BEFORE = re.compile(r"before|prior to|pre[-_ ]?(?:quant|pack|gptq|export)", re.I)
PACKERS = ("quant", "serialize", "gptq", "pack", "compress", "save", "export", "encode")


def calibrations_on_evaluated(scripts: Sequence[Script]) -> Iterator[Place]:
    """Calls whose name speaks of calibration or Hessians and whose argument is the evaluated text."""
    for script, call, name in calls(scripts):
        written = getattr(call.func, "attr", getattr(call.func, "id", ""))
        words = f"{name.rpartition('.')[2]} {written}".lower()
        if "eval" in words or not any(word in words for word in ("calib", "hessian", "gptq", "awq", "fisher")):
            continue
        for given in [*call.args, *(item.value for item in call.keywords)]:
            if _speaks_of_evaluated(given):
                yield script.place(call, f"{written or name}(... {ast.unparse(given)[:40]} ...)")
                break


def confession(line: str) -> bool:
    """Whether a line of a log says that weights were trained on the evaluated text before they were packed."""
    if said := _PRE_QUANT.search(line):
        return not _is_denied(line, said)
    if _TRAIN_ON_VAL.search(line) and not _DENIED.search(line):
        return bool(re.search(r"train_?(?:files|data|loader|shards|pattern|tokens)\w*\W", line, re.I))
    return bool(_FINETUNED.search(line) and _BEFORE.search(line) and not _DENIED.search(line))


def denial(line: str) -> bool:
    """Whether a line of a log says that there was none of it."""
    said = _PRE_QUANT.search(line)
    return bool(said and _is_denied(line, said))


def _is_denied(line: str, said: re.Match[str]) -> bool:
    """Whether what is said is denied in the same clause; what else a line denies is another matter."""
    start = max((line.rfind(mark, 0, said.start()) for mark in ",;"), default=-1) + 1
    stop = min((at for mark in ",;" if (at := line.find(mark, said.end())) >= 0), default=len(line))
    clause = line[start:stop]
    return bool(_OFF.search(clause) or _DENIED.search(clause))


def switches(scripts: Sequence[Script]) -> Iterator[Place]:
    """Switches of that name which are on as written, and calls of functions that are called so."""
    for script in scripts:
        for name, values in script.values.items():
            for value in values if _PRE_QUANT.search(name) else ():
                if not _is_off(script, value):
                    yield script.place(value, f"{name} = {ast.unparse(value)[:40]}")
    for script, call, name in calls(scripts):
        if _PRE_QUANT.search(name) and not any(_PRE_QUANT.search(n) for n in script.values):
            yield script.place(call, f"{name}(...)")
    for script in scripts:
        for name, values in script.values.items():
            if re.match(r"train_?(files|data|pattern|shards|paths|glob)", name.lower()):
                for value in values:
                    if any("fineweb_val" in text for text in script.texts_of(value)):
                        yield script.place(value, f"{name} is the validation text")


def _is_off(script: Script, value: ast.expr) -> bool:
    """A constant that is false, also as the default of an environment variable."""
    constants = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)]
    shown = [c for c in constants if not (isinstance(c, str) and _PRE_QUANT.search(c))]
    return bool(shown) and str(shown[0]).lower() in ("0", "false", "off", "no", "none", "")


def updates_before_packing(scripts: Sequence[Script]) -> Iterator[Place]:
    """Functions that step on validation text and are called on a line before the weights are saved or quantized."""
    for script in scripts:
        learners = {name for name, body in script.functions.items() if _learns(body, _given_evaluated(script, name))}
        for body in (*script.functions.values(), *([script.parsed[0]] if script.parsed[0] else [])):
            inner = [(n.lineno, script.name_of(n.func)) for n in _own_nodes(body) if isinstance(n, ast.Call)]
            packed = [line for line, name in inner if _is_packer(name)]
            steps = [(line, name) for line, name in inner if name.rpartition(".")[2] in learners]
            if _learns(body, set()):
                steps += [(_first_step(body), "a loop")]
            for line, name in steps:
                later = [at for at in packed if at > line]
                if later and len(later) == len(packed):
                    what = f"{name} steps on validation text before weights are saved on line {later[0]}"
                    yield Place(script.name, line, what, script.layer)


def _first_step(body: ast.AST) -> int:
    return min(n.lineno for n in ast.walk(body) if isinstance(n, ast.Attribute) and n.attr in ("backward", "grad"))


def _given_evaluated(script: Script, function: str) -> set[str]:
    """The parameters of a function that some call gives the evaluated text."""
    names = [given.arg for given in script.functions[function].args.args]
    found = set()
    for _, call, name in calls([script]):
        if name.rpartition(".")[2] == function:
            shift = 1 if names[:1] in (["self"], ["cls"]) else 0
            pairs = [*zip(names[shift:], call.args, strict=False), *((k.arg or "", k.value) for k in call.keywords)]
            found |= {parameter for parameter, value in pairs if _speaks_of_evaluated(value)}
    return found


def _learns(body: ast.AST, given: set[str]) -> bool:
    """Whether a gradient is computed of what comes from the evaluated text: its names, `given`, what they go into."""
    tainted = set(given)
    nodes = [*_own_nodes(body)]
    for _ in range(4):
        for node in nodes:
            for target, value in _flows(node):
                if _mentions(value, tainted) and not _only_scores(value):
                    tainted |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "backward" and _mentions(node, tainted):
                return True
            if ast.unparse(node.func) in ("torch.autograd.grad", "autograd.grad") and _mentions(node, tainted):
                return True
    return False


def _flows(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target, value) for target in targets)
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value):
            yield target, value
        case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
            yield target, value
        case ast.NamedExpr(target=target, value=value):
            yield target, value


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return _speaks_of_evaluated(node) or any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(node))


def _only_scores(value: ast.expr) -> bool:
    """A call of an evaluation, whose result is a number."""
    return isinstance(value, ast.Call) and "eval" in ast.unparse(value.func).lower()


def _own_nodes(body: ast.AST) -> Iterator[ast.AST]:
    """Everything in a function or module that is not inside another function."""
    waiting = [*ast.iter_child_nodes(body)]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)


def _is_packer(name: str) -> bool:
    last = name.rpartition(".")[2].lower()
    return any(word in last for word in PACKERS) and not re.search(r"dequant|unpack|uncompress|decompress", last)


def _speaks_of_evaluated(node: ast.AST) -> bool:
    for inner in ast.walk(node):
        name = inner.id if isinstance(inner, ast.Name) else inner.arg if isinstance(inner, ast.arg) else ""
        name = inner.attr if isinstance(inner, ast.Attribute) else name
        if name.lower().startswith(_EVALUATED):
            return True
    return False
