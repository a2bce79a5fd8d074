"""Where evaluated text goes in a script: it is walked in the order in which it runs, functions where they are called.

    val = load("fineweb_val_*.bin"); t = Tuner(model, val); t.fit()   ->   a gradient of it, then `quantize`

Branches are both taken unless their test compares known words; loops go round twice; a name stands for what was last
given to it. Limits: data structures are known as a whole, except literal dictionaries; what libraries do is guessed
from names; `VISITS` bounds the walk.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from .launch import NO_LAUNCH, Launch
from .script import Script
from .text_calls import Calls
from .text_events import COUNTED, REPEATS, WARM_UP, Event, chosen, ended, only_read, put, summed
from .text_expressions import WRITTEN
from .text_names import names_evaluated, names_number, names_training
from .text_splits import lists_every_shard
from .text_values import NOTHING, Call, Scope, Value, path_of

ROUNDS = 2  # what a later file or method has set is known in the next round
_NO_GRADIENTS = ("no_grad", "inference_mode")


def sequences(scripts: tuple[Script, ...], given: Launch = NO_LAUNCH) -> tuple[tuple[Event, ...], ...]:
    """What happens, in the order in which it does: in every file, and in every function that nothing calls.

    `given`: how the scripts are started; a default of what is set there says nothing.
    """
    return _walked(scripts, given)[0]


def holders(scripts: tuple[Script, ...], given: Launch = NO_LAUNCH) -> frozenset[tuple[str, str]]:
    """(class, attribute) of the objects that hold evaluated text and nothing of training, whatever they call it."""
    return _walked(scripts, given)[1]


def receivers(scripts: tuple[Script, ...], given: Launch = NO_LAUNCH) -> frozenset[tuple[int, str]]:
    """(id of a function, parameter) of those that are given evaluated text and never anything of training, whatever
    they call it; '' for what the function gives back."""
    return _walked(scripts, given)[2]


@lru_cache(maxsize=8)
def _walked(
    scripts: tuple[Script, ...], given: Launch
) -> tuple[tuple[tuple[Event, ...], ...], frozenset[tuple[str, str]], frozenset[tuple[int, str]]]:
    walk = _Walk(scripts, given)
    found = tuple(walk.sequences())
    told = {**walk.entered, **{(function, ""): value for function, value in walk.given_back.items()}}
    receives = frozenset(pair for pair, value in told.items() if _is_text(value) and value.kind is None)
    held: dict[tuple[str, str], Value] = {}
    for kind, attributes in walk.attributes.items():
        for name, value in attributes.items():
            pair = str(kind[0]), name
            held[pair] = held.get(pair, NOTHING) | value
    return found, frozenset(pair for pair, value in held.items() if _is_text(value)), receives


def _is_text(value: Value) -> bool:
    """Whether a value is evaluated text and nothing else."""
    return value.text and not (value.training or value.number or value.word)


class _Walk(Calls):
    """Statements; what an expression is, and what a call does, is the business of `Calls`."""

    def sequences(self) -> Iterator[tuple[Event, ...]]:
        found: list[tuple[Event, ...]] = []
        for _ in range(ROUNDS):
            self.reached.clear()
            self.known.clear()
            found = [self._file(script) for script in reversed(self.scripts)]
            every = [(script, function, "") for script, function in self.definitions.functions.values()]
            every += [(*method, owner) for (owner, _), method in self.definitions.methods.items()]
            for script, function, owner in every:
                if id(function) not in self.reached:
                    self.events = []
                    self.run(Call(script, function, (owner,) if owner else None))
                    found.append(tuple(dict.fromkeys(self.events)))
        yield from found

    def _file(self, script: Script) -> tuple[Event, ...]:
        tree = script.parsed[0]
        scope = Scope(script)
        self.events = []
        self.block([] if tree is None else tree.body, scope)
        self.globals |= scope.values
        return tuple(dict.fromkeys(self.events))

    def block(self, body: Sequence[ast.stmt], scope: Scope) -> None:
        for node in body:
            if self.has_time():
                self._statement(node, scope)

    def _statement(self, node: ast.stmt, scope: Scope) -> None:
        happen: Callable[[Any, Scope], None] | None = getattr(self, f"_{type(node).__name__}", None)
        if happen is not None:
            happen(node, scope)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child, scope)

    def _Assign(self, node: ast.Assign, scope: Scope) -> None:
        found = self.value(node.value, scope)
        match node:
            case ast.Assign(
                targets=[ast.Name(id=row)], value=ast.Call(func=ast.Attribute(value=whole, attr="setdefault"))
            ):
                self.rows.setdefault(row, set()).add(path_of(whole))
        for target in node.targets:
            if isinstance(target, ast.Subscript) and self._counts(target, node, scope):
                found |= Value(seen=True, table=True)
            if isinstance(target, (ast.Attribute, ast.Subscript)):
                self._put(node, target, found, scope)
            else:
                self._added(node, target, node.value, scope)
            self.bind(target, found, node.value, scope)

    def _counts(self, target: ast.Subscript, node: ast.Assign, scope: Scope) -> bool:
        """row[token] = row.get(token, 0) + 1: a table that is told one more of its tokens."""
        path = path_of(target.value)
        again = path and path in {path_of(inner) for inner in ast.walk(node.value)}
        if not again or not isinstance(node.value, ast.BinOp) or not self.value(target.slice, scope).text:
            return False
        self.happened(Event(COUNTED, scope.script.place(node, "counts"), f"{ast.unparse(node)[:40]}"))
        for whole in self.rows.get(path, ()):
            scope.values[whole] = scope.values.get(whole, NOTHING) | Value(seen=True, table=True)
        return True

    def _added(self, node: ast.Assign, target: ast.expr, source: ast.expr, scope: Scope) -> None:
        """total = total + x, also of several at once."""
        if isinstance(target, ast.Tuple) and isinstance(source, ast.Tuple):
            for each, its_source in zip(target.elts, source.elts, strict=False):
                self._added(node, each, its_source, scope)
        elif path_of(target) and [path_of(inner) for inner in ast.walk(source)].count(path_of(target)) == 1:
            found = self.value(source, scope)
            if found.learned or found.number:
                self.happened(summed(scope.script, node, target, found))

    def _put(self, node: ast.stmt, target: ast.expr, found: Value, scope: Scope) -> None:
        """Weights or statistics that get what was computed of evaluated text."""
        if found.learned:
            self.happened(put(scope.script, node, target, ast.unparse(node)[:60]))
        if found.learned or found.number:
            self.happened(summed(scope.script, node, target, found))
        if found.chosen or self.is_choice:
            self.happened(chosen(scope.script, node, target))

    def _Expr(self, node: ast.Expr, scope: Scope) -> None:
        found = self.value(node.value, scope)
        if found.learned and isinstance(node.value, ast.Call):
            given = [self.whole(self.value(each, scope)) for each in node.value.args]
            if any(value.learned and not value.training for value in given):
                self.happened(only_read(scope.script, node.value))

    def _AnnAssign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self.bind(node.target, self.value(node.value, scope), node.value, scope)

    def _AugAssign(self, node: ast.AugAssign, scope: Scope) -> None:
        added = self.value(node.value, scope)
        if isinstance(node.target, ast.Subscript) and self.value(node.target.slice, scope).text:
            self.happened(Event(COUNTED, scope.script.place(node, "counts"), f"{ast.unparse(node)[:40]}"))
            added |= Value(table=True)
        found = self.value(node.target, scope) | added
        self._put(node, node.target, added, scope)
        self.bind(node.target, replace(found, word=None), node.value, scope)

    def _Return(self, node: ast.Return, scope: Scope) -> None:
        scope.returned |= NOTHING if node.value is None else self.value(node.value, scope)

    def _If(self, node: ast.If, scope: Scope) -> None:
        before, tested = self.is_choice, self.value(node.test, scope)
        holds = self.decided(node.test, scope)
        bodies = [node.body] if holds else [node.orelse] if holds is False else [node.body, node.orelse]
        self.is_choice |= tested.chosen and not _asks_for_numbers(node.test)
        self._either(bodies, scope)
        self.is_choice = before

    def _Break(self, node: ast.Break, scope: Scope) -> None:
        if self.is_choice and self.is_training:
            self.happened(ended(scope.script, node))

    def _For(self, node: ast.For | ast.AsyncFor, scope: Scope) -> None:
        before = self.loops
        if not self._is_once(node.iter, scope):
            self.loops = (*before, (id(node), _kind_of_loop(node), 0))
        is_mixed = lists_every_shard([node.iter], node.body, self.told(scope, [node.target]))
        was_training, self.is_training = self.is_training, _trains(node)
        for source, found in self._elements(node.iter, scope):
            found = replace(found, text=True) if is_mixed else found
            self.bind(node.target, found, source, scope)
            self.block(node.body, scope)
        self.loops, self.is_training = before, was_training
        self.block(node.orelse, scope)

    def _is_once(self, over: ast.expr, scope: Scope) -> bool:
        """range(1), range(EPOCHS) where that is 1: no loop at all."""
        match over:
            case ast.Call(func=ast.Name(id="range"), args=[bound]):
                return isinstance(bound, (ast.Constant, ast.Name)) and self.value(bound, scope).word == "1"
        return False

    def _elements(self, node: ast.expr, scope: Scope) -> Iterator[tuple[ast.expr, Value]]:
        """What a loop goes through, and where it is written: a short list's elements, else an element twice."""
        written = node.elts * 2 if isinstance(node, (ast.Tuple, ast.List)) and len(node.elts) == 1 else []
        written = node.elts if isinstance(node, (ast.Tuple, ast.List)) and not written else written
        if not 1 < len(written) <= WRITTEN:
            yield from [(node, self.element(self.value(node, scope)))] * 2
            return
        for each in written:
            yield each, self.value(each, scope)

    def _While(self, node: ast.While, scope: Scope) -> None:
        before, self.loops = self.loops, (*self.loops, (id(node), REPEATS if _is_clocked(node) else "", 0))
        was_training, self.is_training = self.is_training, _trains(node)
        for _ in range(2):
            self.value(node.test, scope)
            self.block(node.body, scope)
        self.loops, self.is_training = before, was_training

    def _Try(self, node: ast.Try, scope: Scope) -> None:
        self.block([*node.body, *node.orelse], scope)
        for handler in node.handlers:
            self._either([handler.body, []], scope)
        self.block(node.finalbody, scope)

    def _FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> None:
        self.closures[id(node)] = scope

    def _ClassDef(self, node: ast.ClassDef, scope: Scope) -> None:
        inner = Scope(scope.script, {}, scope)
        self.block(node.body, inner)
        self.attributes.setdefault((node.name,), {}).update(inner.values)

    def _Global(self, node: ast.Global | ast.Nonlocal, scope: Scope) -> None:
        scope.outer |= {*node.names}

    def _Match(self, node: ast.Match, scope: Scope) -> None:
        self.value(node.subject, scope)
        self._either([case.body for case in node.cases], scope)

    def _With(self, node: ast.With | ast.AsyncWith, scope: Scope) -> None:
        before = scope.graded
        for item in node.items:
            found = self.value(item.context_expr, scope)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, found, item.context_expr, scope)
            name = scope.script.name_of(getattr(item.context_expr, "func", item.context_expr)).rpartition(".")[2]
            scope.graded = name == "enable_grad" or (scope.graded and name not in _NO_GRADIENTS)
        self.block(node.body, scope)
        scope.graded = before

    _AsyncFor, _AsyncWith, _AsyncFunctionDef, _Nonlocal = _For, _With, _FunctionDef, _Global

    def _either(self, bodies: Sequence[Sequence[ast.stmt]], scope: Scope) -> None:
        """One of several bodies: what any of them may leave behind."""
        before, merged = scope.values, dict[str, Value]()
        for body in bodies:
            scope.values = dict(before)
            self.block(body, scope)
            merged |= {name: merged[name] | v if name in merged else v for name, v in scope.values.items()}
        scope.values = merged

    def bind(self, target: ast.expr, found: Value, source: ast.expr, scope: Scope) -> None:
        match target:
            case ast.Starred(value=inner):
                self.bind(inner, found, source, scope)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                given = source.elts if isinstance(source, (ast.Tuple, ast.List)) and source is not target else []
                for i, inner in enumerate(parts):
                    if len(given) == len(parts):
                        self.bind(inner, self.value(given[i], scope), given[i], scope)
                    else:
                        self.bind(inner, _part(found, path_of(inner)), inner, scope)
            case ast.Subscript(value=owner) if not path_of(target):
                while isinstance(owner, ast.Subscript) and not path_of(owner):
                    owner = owner.value
                if path := path_of(owner):
                    self._set(path, self.value(owner, scope) | found.plain, owner, owner, scope)
            case _ if path := path_of(target):
                self._set(path, found, target, source, scope)

    def _set(self, path: str, found: Value, target: ast.expr, source: ast.expr, scope: Scope) -> None:
        last = path.rpartition(".")[2]
        if self.is_choice and not names_number(last):
            found = replace(found, chosen=True)
        if isinstance(target, (ast.Attribute, ast.Subscript)):
            kind = self.value(target.value, scope).kind
            if kind is not None:
                own = self.attributes.setdefault(kind, {})
                own[last] = own.get(last, found) | found
                return
        if path in scope.outer:
            self.globals[path] = self.globals.get(path, NOTHING) | found
        is_part = isinstance(source, (ast.Subscript, ast.BinOp)) and source is not target
        found = replace(found, seen=False, number=found.number or found.learned) if names_number(last) else found
        scope.values[path] = found if is_part else self.called(last, found)


def _asks_for_numbers(test: ast.expr) -> bool:
    """Whether a test only asks if a loss is a number at all."""
    calls = {getattr(n.func, "attr", getattr(n.func, "id", "")) for n in ast.walk(test) if isinstance(n, ast.Call)}
    return bool(calls & {"isfinite", "isnan", "isinf"})


def _trains(node: ast.For | ast.AsyncFor | ast.While) -> bool:
    """Whether a loop takes steps."""
    calls = (n.func.attr for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return bool({*calls} & {"backward", "step"})


def _kind_of_loop(node: ast.For | ast.AsyncFor) -> str:
    """What a loop is for: REPEATS where its variable counts epochs or chooses nothing; WARM_UP where it says so and
    deletes what it has made."""
    over = ast.unparse(node.iter).lower()
    if "warm" in over and any(isinstance(inner, ast.Delete) for inner in node.body):
        return WARM_UP
    if not isinstance(node.target, ast.Name):
        return ""
    name = node.target.id
    used = any(isinstance(n, ast.Name) and n.id == name for part in node.body for n in ast.walk(part))
    counts = over.startswith("range(") and ("epoch" in over or not used)
    return REPEATS if name.startswith("_") or re.search(r"epoch|^ep$", name.lower()) or counts else ""


def _is_clocked(node: ast.While) -> bool:
    """Whether a loop only repeats itself until the time is over, and adds nothing up."""
    calls = {getattr(each.func, "attr", "") for each in ast.walk(node.test) if isinstance(each, ast.Call)}
    sums = any(isinstance(each, ast.AugAssign) for each in node.body)
    return bool(calls & {"time", "perf_counter", "monotonic"}) and not sums


def _part(found: Value, name: str) -> Value:
    """One of several values that a call gives back, by the name that it gets."""
    last = name.rpartition(".")[2]
    if names_evaluated(last) or names_training(last):
        return Value(names_evaluated(last), names_training(last))
    return found.plain
