"""Whether what is scored was read back from the packed file, where a script packs and then scores.

    blob = zlib.compress(raw); file.write(blob); evaluate(model)       nothing is read back at all
    fresh.load_state_dict(read(path)); evaluate(model)                 it goes into what nobody scores
    judged.load_state_dict(read(path)); judged.load_state_dict(exact)  something else takes its place

Read off one function at a time, in the order of its lines, by what its calls do: they pack, read, put into a model
or score, by themselves or through functions of the scripts. Left alone is what cannot be followed: functions that
read and put by themselves, attributes of `self`, weights that were rounded in place, evaluations in another function.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .script import Place, Script
from .units import Unit, last_of, last_word, read

PACKS, READS, PUTS, SCORES, LEARNS = "packs", "reads", "puts", "scores", "learns"
_READERS = {"decompress", "decompressobj", "LZMADecompressor", "BZ2Decompressor", "load_file", "safe_open", "loadz"}
_LOADS = re.compile(r"^(?:torch|np|numpy|mx|jnp|pickle)\.load$")
_OPENS = ("lzma.open", "gzip.open", "bz2.open", "zstandard.open", "gzip.GzipFile", "lzma.LZMAFile", "bz2.BZ2File")
_PUTTERS = {
    "load_state_dict",
    "copy_",
    "set_",
    "functional_call",
    "vector_to_parameters",
    "tree_unflatten",
    "setattr",
}
_LOSSES = {
    "cross_entropy",
    "nll_loss",
    "log_softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
}
_STEPS = {"backward", "step", "value_and_grad", "grad", "grad_and_value"}
_ROUNDS = re.compile(r"quant|round|snap|fake|ste\b|int[4-8]|project|deq|restore|unpack|roundtrip|decode", re.I)
_NAMED = re.compile(r"^_?(?:eval|evaluate|score|validate|timed_eval|final_eval)(?:_|$)|eval_val|val_bpb")
_WRAPS = re.compile(r"compile|parallel|ddp|fsdp|wrap|prepare|^(?:to|cuda|eval|half|float|bfloat16)$", re.I)
_OF_CODE = re.compile(r"\b(?:code|source|script|__file__|src|text|minif\w*)\b")
_TRIVIAL = {
    "print", "len", "info", "debug", "log", "log0", "write", "sum", "sorted", "list", "keys", "items", "isinstance",
    "numel", "range", "eval", "train", "to", "cuda", "cpu", "half", "float", "bfloat16", "parameters", "type",
    "values", "state_dict", "load_state_dict", "requires_grad_", "copy_", "setattr", "get_parameter", "barrier",
    "zip", "enumerate", "named_parameters",
}  # fmt: skip
_COMMON = {
    "read",
    "load",
    "write",
    "save",
    "open",
    "get",
    "close",
    "pack",
    "unpack",
    "update",
    "append",
    "copy",
    "run",
}


def never_read_back(scripts: Sequence[Script]) -> Iterator[Place]:
    """Where a script scores, after it has packed, what never came out of the packed file."""
    doing = _Doings(scripts)
    for script in scripts:
        tree = script.parsed[0]
        units = [node for node in script.nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        for unit in [*([] if tree is None else [tree]), *units]:
            yield from _Course(script, doing).of(unit)


class _Doings:
    """What calls do, also through functions and methods of the scripts."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self.functions: dict[str, set[str]] = {}
        self.methods: dict[str, set[str]] = {}
        self.classes: set[str] = set()
        bodies: list[tuple[Script, ast.AST, set[str]]] = []
        for script in scripts:
            self.classes |= {node.name for node in script.nodes if isinstance(node, ast.ClassDef)}
            for node in script.nodes:
                if isinstance(node, ast.ClassDef):
                    for item in node.body:
                        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
                            does = self.methods.setdefault(item.name, set())
                            bodies.append((script, item, does))
                            if item.name in ("__init__", "__call__"):
                                bodies.append((script, item, self.functions.setdefault(node.name, set())))
            inside = {id(item) for node in script.nodes if isinstance(node, ast.ClassDef) for item in node.body}
            for node in script.nodes:
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and id(node) not in inside:
                    bodies.append((script, node, self.functions.setdefault(node.name, set())))
        self._settle(bodies)
        self.reads_at_all = any(READS in does for _, _, does in bodies)
        self.rounds = any(PUTS in does and _ROUNDS.search(getattr(body, "name", "")) for _, body, does in bodies)

    def _settle(self, bodies: Sequence[tuple[Script, ast.AST, set[str]]]) -> None:
        for script, body, does in bodies:
            found = {_directly(script, node) for node in ast.walk(body)} - {""}
            does |= found | ({SCORES} if _NAMED.search(getattr(body, "name", "")) else set())
            does -= {SCORES} if LEARNS in found else set()
        for _ in range(4):
            for script, body, does in bodies:
                for node in ast.walk(body):
                    if isinstance(node, ast.Call):
                        does |= self.of(script, node) - {LEARNS} - ({SCORES} if LEARNS in does else set())

    def _is_own(self, script: Script, owner: str) -> bool:
        """Whether a name is a class of the scripts or was given an object of one."""
        made = [last_word(each) for each in script.values.get(owner, []) if isinstance(each, ast.Call)]
        return owner in self.classes or bool(self.classes & {*made})

    def of(self, script: Script, call: ast.Call) -> set[str]:
        """What a call does; functions that it is given, it calls."""
        found = {_directly(script, call)} - {""}
        func, last = call.func, last_word(call)
        if isinstance(func, ast.Name):
            found |= self.functions.get(last, set())
        elif isinstance(func, ast.Call):
            found |= self.functions.get(last_word(func), set())
        elif isinstance(func, ast.Attribute):
            owner = getattr(func.value, "id", "")
            if owner in script.imported and owner not in ("torch", "np", "F", "zlib", "lzma", "io", "os"):
                found |= self.functions.get(last, set())
            elif last not in _COMMON or owner in ("self", "cls") or self._is_own(script, owner):
                found |= self.methods.get(last, set())
        for given in call.args:
            if isinstance(given, ast.Name):
                found |= self.functions.get(given.id, set()) & {SCORES}
        return found


def _directly(script: Script, node: ast.AST) -> str:
    """What a call of a library does, '' for nothing of it."""
    if not isinstance(node, ast.Call):
        return ""
    last, name = last_word(node), script.name_of(node.func)
    if name.startswith(_OPENS):
        return PACKS if re.search(r"['\"]w", ast.unparse(node)) else READS
    if last in _READERS or _LOADS.match(name):
        return READS
    if last in ("compress", "savez_compressed"):
        return "" if _OF_CODE.search(ast.unparse(node)) else PACKS
    for word, those in ((PUTS, _PUTTERS), (SCORES, _LOSSES), (LEARNS, _STEPS)):
        if last in those:
            return word
    return ""


@dataclass
class _Course:
    """One function as it goes on. `held`: names that hold something of the packed file."""

    script: Script
    doing: _Doings
    held: set[str] = field(default_factory=set)
    packed: bool = False
    back: ast.AST | None = None  # what has read it last
    used: bool = False
    put: bool = False
    scored: ast.AST | None = None
    parts: dict[str, str] = field(default_factory=dict)  # a parameter that a loop goes through -> its model

    def of(self, unit: Unit) -> Iterator[Place]:
        for statement in _in_order(unit.body):
            if self.used:
                return
            self._step(statement)
        if self.scored is None or self.used:
            return
        if self.back is not None:
            told = "what it reads back from the packed file is scored nowhere behind it"
            yield self.script.place(self.back, f"{ast.unparse(self.back)[:60]}: {told}")
        elif not (self.doing.reads_at_all or self.put or self.doing.rounds):
            told = "scores after packing, and nothing was read back from the packed file"
            yield self.script.place(self.scored, f"{ast.unparse(self.scored)[:60]} {told}")

    def _step(self, statement: ast.stmt) -> None:
        parts = _own(statement)
        made = [node for part in parts for node in ast.walk(part) if isinstance(node, ast.Call)]
        does = {word for call in made for word in self.doing.of(self.script, call)}
        if self.packed and READS in does:
            self._reads(statement, made, does)
        elif self.packed and self.back is not None:
            self._goes_on(statement, parts, made)
        self.put |= self.packed and PUTS in does
        if self.packed and SCORES in does and LEARNS not in does:
            self.scored = next(call for call in made if SCORES in self.doing.of(self.script, call))
        self.packed |= PACKS in does

    def _reads(self, statement: ast.stmt, made: Sequence[ast.Call], does: set[str]) -> None:
        self.scored, self.back = None, statement
        targets = _targets(statement)
        put_into = {
            _root(call.func) for call in made if last_word(call) in _PUTTERS and not isinstance(call.func, ast.Name)
        }
        self.held |= targets.union(*map(self._wrapping, put_into))
        if not targets and not put_into:
            reader = next(call for call in made if READS in self.doing.of(self.script, call))
            self.held |= {name for each in (*reader.args, *(k.value for k in reader.keywords)) for name in read(each)}
            self.held |= {_root(reader.func)}
            self.used |= PUTS not in does or not self.held  # nobody knows where it goes
        self.used |= SCORES in does or isinstance(statement, ast.Return) or "self" in self.held
        self.used |= any(isinstance(n, ast.Attribute) and n.attr == "__dict__" for n in ast.walk(statement))

    def _goes_on(self, statement: ast.stmt, parts: Sequence[ast.expr], made: Sequence[ast.Call]) -> None:
        those = {name for part in parts for name in read(part)} & self.held
        put = [each for call in made if last_word(call) in _PUTTERS for each in call.args]
        within = {id(node) for each in put for node in ast.walk(each)}
        for call in made:
            root = _root(call.func)
            given = {name for each in (*call.args, *(k.value for k in call.keywords)) for name in read(each)}
            if last_word(call) in _PUTTERS and isinstance(call.func, ast.Attribute):
                root = self.parts.get(root, root)
                if given & self.held:
                    self.held |= self._wrapping(root)
                elif root in self.held and _is_plain(call):
                    self.held.discard(root)
                    those.discard(root)
            elif (
                id(call) not in within
                and last_word(call) not in _TRIVIAL
                and (given & self.held or root in self.held)
            ):
                takes = SCORES in self.doing.of(self.script, call) or root in self.held
                self.used |= takes or isinstance(statement, (ast.Expr, ast.For, ast.While, ast.If, ast.With))
        self.used |= bool(those) and isinstance(statement, (ast.Return, ast.Assert, ast.AugAssign))
        if isinstance(statement, ast.For) and last_of(statement.iter) == "zip":
            self._goes_through(statement)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.For, ast.With)):
            self.held = self.held | _targets(statement) if those else self.held - _targets(statement)
        self.used |= bool(those) and any("self" in ast.unparse(each) for each in getattr(statement, "targets", []))

    def _wrapping(self, name: str) -> set[str]:
        """The name of a model and those of what wraps it: compile(model), DDP(model), either by a condition."""
        found = {name}
        while more := {other for other, values in self._wrapped if other not in found and values & found}:
            found |= more
        return found

    @cached_property
    def _wrapped(self) -> list[tuple[str, set[str]]]:
        """Names that are given a model or a wrapper of one, and the names that it is made of."""
        return [
            (name, set(read(value)))
            for name, values in self.script.values.items()
            for value in values
            if isinstance(value, ast.IfExp) or (isinstance(value, ast.Call) and _WRAPS.search(last_word(value)))
        ]

    def _goes_through(self, loop: ast.For) -> None:
        """for p, e in zip(model.parameters(), ema): which of its names are of the packed file, and of which model."""
        names = loop.target.elts if isinstance(loop.target, ast.Tuple) else []
        for target, over in zip(names, getattr(loop.iter, "args", []), strict=False):
            if isinstance(target, ast.Name) and read(over) & self.held:
                self.held.add(target.id)
                self.parts[target.id] = _root(over)
            elif isinstance(target, ast.Name):
                self.held.discard(target.id)


def _is_plain(call: ast.Call) -> bool:
    """load_state_dict(exact): of a name, and not of what was rounded as the file is."""
    text = ast.unparse(call)
    return len(call.args) > 0 and isinstance(call.args[0], ast.Name) and not _ROUNDS.search(text)


def _in_order(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements in the order of their lines, those of functions in them not."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        yield statement
        for name in ("body", "orelse", "finalbody"):
            yield from _in_order(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from _in_order(handler.body)


def _own(statement: ast.stmt) -> list[ast.expr]:
    """The expressions of a statement itself, and not of its body."""
    items = (
        [each.context_expr for each in statement.items] if isinstance(statement, (ast.With, ast.AsyncWith)) else []
    )
    return items + [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr)]


def _targets(statement: ast.stmt) -> set[str]:
    """Names that a statement gives something to."""
    given: list[ast.AST] = [*getattr(statement, "targets", []), *filter(None, [getattr(statement, "target", None)])]
    given += [each.optional_vars for each in getattr(statement, "items", []) if each.optional_vars is not None]
    return {name for each in given for name in read(each)}


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
