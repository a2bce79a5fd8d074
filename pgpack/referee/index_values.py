"""What an expression of an evaluation is: whole numbers, lists, and which tokens of the text a tensor is about."""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from .index_known import (
    DRAWN,
    FUNCTIONS,
    OPERATORS,
    RANKS,
    UNKNOWN,
    Cap,
    Unknown,
    Unsure,
    drawn,
)
from .script import Script
from .spans import Span, Tensor
from .text_names import names_evaluated
from .text_values import Definitions, parameters

Compared = tuple[list[Span | None], list[Span | None], ast.Call]  # rows of inputs or logits, of targets, where
STEPS, DEPTH = 400_000, 6
_MANY = re.compile(r"^(?:all_|val_|my_|rank_)?(?:docs|windows|window_starts|starts|doc_entries|documents)$")
MANY = 40_000  # documents of the whole text, at the least
NO_SUM = re.compile(r"byte|tok|count|num|step|len|grad|param|optim|(?:^|[._])n$")
_COMPARES = re.compile(r"^(?:cross_entropy|nll_loss|\w*model|net|gpt|\w*forward(?:_loss)?)$")
_LOSSES = re.compile(r"loss|nll|nats|score|bpb|bits")
_SUMMERS = {"append", "extend", "add_", "add"}


class Expressions(ABC):
    """`settings`: defaults of options by name; `events`: (scored, learned or put ahead of what is before it,
    positions, node, whether that is in doubt)."""

    def __init__(self, script: Script, definitions: Definitions, settings: Mapping[str, Any], tokens: int) -> None:
        self.script, self.definitions, self.settings, self.tokens = script, definitions, settings, tokens
        self.events: list[tuple[str, list[Span], ast.AST, bool]] = []
        self.steps = self.depth = 0
        self.doubt = 0  # how many undecided branches lead here
        self.caps: list[Cap] = []
        self.compared: list[Compared] = []
        self.own: frozenset[str] = frozenset()  # attributes of `self` that hold the evaluated text
        self._readers: dict[type, Callable[[Any, dict[str, Any]], Any]] = {}
        self._shown: dict[int, str] = {}  # of nodes of the scripts, which outlive this

    @abstractmethod
    def run(self, function: ast.FunctionDef | ast.AsyncFunctionDef, given: Mapping[str, Any]) -> Any:
        """What a function returns."""

    @abstractmethod
    def bind(self, target: ast.expr, found: Any, scope: dict[str, Any]) -> None:
        """A target gets a value."""

    def named(self, name: str, found: Any) -> Any:
        """A variable of which only the name is known."""
        if not isinstance(found, Unknown):
            return found
        if names_evaluated(name) and not re.search("data$|loader$|files$|pattern$|path", name):
            return Tensor([(0, self.tokens)], True)
        return RANKS.get(name, found)

    def count(self) -> None:
        """One more step. Raises Unsure."""
        self.steps += 1
        if self.steps > STEPS:
            raise Unsure

    def holds(self, test: ast.expr, scope: dict[str, Any]) -> bool | None:
        found = self.value(test, scope)
        return None if isinstance(found, (Unknown, Tensor)) else bool(found)

    def value(self, node: ast.expr, scope: dict[str, Any]) -> Any:
        """What an expression is, as far as it is known."""
        self.count()
        kind = type(node)
        if kind not in self._readers:
            self._readers[kind] = getattr(self, f"_{kind.__name__}_", lambda *_: UNKNOWN)
        return self._readers[kind](node, scope)

    def shown(self, node: ast.AST) -> str:
        """An expression as it is written."""
        if id(node) not in self._shown:
            self._shown[id(node)] = ast.unparse(node)
        return self._shown[id(node)]

    def _Constant_(self, node: ast.Constant, scope: dict[str, Any]) -> Any:
        return node.value

    def _Name_(self, node: ast.Name, scope: dict[str, Any]) -> Any:
        return self._variable(node.id, scope)

    def _Attribute_(self, node: ast.Attribute, scope: dict[str, Any]) -> Any:
        if node.attr in self.own and isinstance(node.value, ast.Name) and node.value.id == "self":
            return Tensor([(0, self.tokens)], True)
        return self._attribute(self.value(node.value, scope), node.attr)

    def _BinOp_(self, node: ast.BinOp, scope: dict[str, Any]) -> Any:
        return self.operated(node.op, self.value(node.left, scope), self.value(node.right, scope))

    def _UnaryOp_(self, node: ast.UnaryOp, scope: dict[str, Any]) -> Any:
        return self._unary(node.op, self.value(node.operand, scope))

    def _BoolOp_(self, node: ast.BoolOp, scope: dict[str, Any]) -> Any:
        return self._either(node, scope)

    def _Compare_(self, node: ast.Compare, scope: dict[str, Any]) -> Any:
        return self._compared([self.value(each, scope) for each in (node.left, *node.comparators)], node.ops)

    def _IfExp_(self, node: ast.IfExp, scope: dict[str, Any]) -> Any:
        holds = self.holds(node.test, scope)
        if holds is not None:
            return self.value(node.body if holds else node.orelse, scope)
        both = [self.value(each, scope) for each in (node.body, node.orelse)]
        return next((each for each in both if isinstance(each, Tensor)), UNKNOWN)

    def _Tuple_(self, node: ast.Tuple, scope: dict[str, Any]) -> Any:
        return tuple(self.value(part, scope) for part in node.elts)

    def _List_(self, node: ast.List, scope: dict[str, Any]) -> Any:
        return [self.value(part, scope) for part in node.elts]

    def _Subscript_(self, node: ast.Subscript, scope: dict[str, Any]) -> Any:
        held, at = self.value(node.value, scope), self.index(node.slice, scope)
        self._is_capped(node, held, at)
        return self._item(held, at)

    def _NamedExpr_(self, node: ast.NamedExpr, scope: dict[str, Any]) -> Any:
        found = self.value(node.value, scope)
        self.bind(node.target, found, scope)
        return found

    def _ListComp_(self, node: ast.ListComp | ast.GeneratorExp, scope: dict[str, Any]) -> Any:
        return self.comprehended(node, scope)

    def _Call_(self, node: ast.Call, scope: dict[str, Any]) -> Any:
        return self.called(node, scope)

    _GeneratorExp_ = _ListComp_

    def _variable(self, name: str, scope: dict[str, Any]) -> Any:
        if name in scope:
            return scope[name]
        return self.named(name, self.settings.get(name, UNKNOWN))

    def _attribute(self, owner: Any, attr: str) -> Any:
        if isinstance(owner, Tensor):
            return owner if attr in ("values", "T", "data") else UNKNOWN
        return self.named(attr, self.settings.get(attr, UNKNOWN))

    @staticmethod
    def operated(op: ast.operator | ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            return left if isinstance(left, Tensor) else right
        if isinstance(left, Unknown) or isinstance(right, Unknown) or type(op) not in OPERATORS:
            return UNKNOWN
        is_large = isinstance(op, (ast.Pow, ast.LShift)) and not (isinstance(right, (int, float)) and abs(right) < 64)
        is_repeated = isinstance(op, ast.Mult) and any(isinstance(each, (list, str, tuple)) for each in (left, right))
        if is_large or (is_repeated and any(isinstance(each, int) and each > STEPS for each in (left, right))):
            return UNKNOWN
        try:
            return OPERATORS[type(op)](left, right)
        except (TypeError, ValueError, ArithmeticError):
            return UNKNOWN

    @staticmethod
    def _unary(op: ast.unaryop, found: Any) -> Any:
        if isinstance(found, (Unknown, Tensor)):
            return found
        try:
            return not found if isinstance(op, ast.Not) else -found if isinstance(op, ast.USub) else found
        except TypeError:
            return UNKNOWN

    def _either(self, node: ast.BoolOp, scope: dict[str, Any]) -> Any:
        ends = isinstance(node.op, ast.Or)
        found: Any = UNKNOWN
        is_known = True
        for part in node.values:
            found = self.value(part, scope)
            if isinstance(found, (Unknown, Tensor)):
                is_known = False
            elif bool(found) is ends:
                return found
        return found if is_known else UNKNOWN

    def _compared(self, values: Sequence[Any], ops: Sequence[ast.cmpop]) -> Any:
        found = [self.operated(op, a, b) for op, a, b in zip(ops, values, values[1:], strict=False)]
        if any(isinstance(each, (Unknown, Tensor)) for each in found):
            return UNKNOWN
        return all(found)

    def index(self, node: ast.expr, scope: dict[str, Any]) -> Any:
        if isinstance(node, ast.Slice):
            ends = [None if each is None else self.value(each, scope) for each in (node.lower, node.upper, node.step)]
            return UNKNOWN if any(isinstance(each, (Unknown, Tensor, float)) for each in ends) else slice(*ends)
        if isinstance(node, ast.Tuple):
            return tuple(self.index(each, scope) for each in node.elts)
        return self.value(node, scope)

    def _is_capped(self, node: ast.Subscript, held: Any, at: Any) -> None:
        """windows[:limit]: fewer than there are in the whole text, though not fewer than there are here."""
        size = held.size if isinstance(held, Tensor) and held.flat else len(held) if isinstance(held, list) else 0
        if isinstance(held, Unknown) and _MANY.search(self.shown(node.value)) and not self.doubt:
            size = MANY
        upper = node.slice.upper if isinstance(node.slice, ast.Slice) and node.slice.lower is None else None
        is_bound = upper is not None and is_fixed(upper) and isinstance(at, slice) and isinstance(at.stop, int)
        if is_bound and size == MANY and 0 < at.stop < MANY:
            self.caps.append(Cap(node, 0, size))
        elif is_bound and 0 < size <= at.stop:
            self.caps.append(Cap(node, at.stop, size))

    def _item(self, held: Any, index: Any) -> Any:
        if isinstance(held, Tensor):
            return self._of_tensor(held, index)
        try:
            return held[index] if isinstance(held, (list, tuple, range, dict, str)) else UNKNOWN
        except (TypeError, ValueError, LookupError):
            return UNKNOWN

    def _of_tensor(self, held: Tensor, index: Any) -> Tensor:
        if isinstance(index, Unknown):
            if held.flat and held.size == self.tokens:
                raise Unsure  # text from nobody knows where
            return held
        parts = list(index) if isinstance(index, tuple) else [index]
        is_row = bool(parts) and parts[0] is None
        parts = [part for part in parts if part is not None and part is not Ellipsis]
        if held.flat and not is_row and parts and isinstance(parts[0], slice):
            parts = parts[:1]  # what is behind it is of another axis: p.gather(1, y[:, None])[:, 0]
        for i, part in enumerate(parts):
            if isinstance(part, int) and not isinstance(part, bool):
                held = held.chosen(part)
            elif isinstance(part, slice) and part.step not in (None, 1) and held.flat:
                raise Unsure
            elif isinstance(part, slice) and (held.flat or i or is_row):
                held = held.part(part)
            elif isinstance(part, slice):
                held = Tensor(held.rows[part], False)
            if i and not isinstance(part, int):
                break
        return Tensor(held.rows, False) if is_row else held

    def comprehended(self, node: ast.ListComp | ast.GeneratorExp, scope: dict[str, Any]) -> Any:
        loop = node.generators[0]
        over = self.value(loop.iter, scope)
        if len(node.generators) > 1 or not isinstance(over, (list, tuple, range, set)):
            return UNKNOWN
        inner, found = dict(scope), []
        for each in over:
            self.count()
            self.bind(loop.target, each, inner)
            if all(self.holds(test, inner) is not False for test in loop.ifs):
                found.append(self.value(node.elt, inner))
        return found

    def called(self, node: ast.Call, scope: dict[str, Any]) -> Any:
        last = str(getattr(node.func, "attr", getattr(node.func, "id", "")))
        owner = self.value(node.func.value, scope) if isinstance(node.func, ast.Attribute) else UNKNOWN
        args = [self.value(each.value if isinstance(each, ast.Starred) else each, scope) for each in node.args]
        named = {item.arg: self.value(item.value, scope) for item in node.keywords if item.arg}
        if last == "backward":
            about = (
                owner
                if isinstance(owner, Tensor)
                else next((each for each in args if isinstance(each, Tensor)), None)
            )
            if about is not None:
                self.events.append(("learned", about.spans, node, self.doubt > 0))
            return UNKNOWN
        self._kept(node, last, args)
        if isinstance(owner, Tensor):
            return self._method(owner, last, args)
        if isinstance(owner, list) and args and not self.doubt:
            if last == "append" and isinstance(args[0], Tensor) and _LOSSES.search(self.shown(node.func).lower()):
                self.events.append(("listed", args[0].spans, node, False))
            owner += (
                args[:1] if last == "append" else args[0] if last == "extend" and isinstance(args[0], list) else []
            )
        is_put = isinstance(node.func, ast.Attribute) and last in _SUMMERS and not isinstance(owner, list)
        if is_put and args and isinstance(args[0], Tensor) and not NO_SUM.search(self.shown(node.func).lower()):
            self.events.append(("scored", args[0].spans, node, self.doubt > 0))
        if isinstance(node.func, ast.Name) or (isinstance(owner, Unknown) and self.shown(node.func)[:5] == "math."):
            own = scope.get(last) if isinstance(scope.get(last), ast.FunctionDef) else None
            if own is None and last in self.definitions.functions:
                own = self.definitions.functions[last][1]
            if own is not None and self.depth < DEPTH:
                return self.run(own, {**dict(zip(parameters(own), args, strict=False)), **named})
            if last == "min" and len(args) == 2 and all(isinstance(each, int) for each in args):
                size, bound = min(args), max(args)
                if size > 0.9 * self.tokens and is_fixed(node.args[args.index(bound)]):
                    self.caps.append(Cap(node, bound, size))
            if last in FUNCTIONS and not named:
                return self._builtin(last, args)
        return owner if self._same(owner, last) else self._of_library(last, node, args, named)

    def _kept(self, node: ast.Call, last: str, args: Sequence[Any]) -> None:
        """Keeps what a model or a loss is given: what it reads and what that is compared with."""
        tensors = [each for each in args if isinstance(each, Tensor)]
        if len(tensors) == 2 and _COMPARES.search(last) and not self.doubt:
            self.compared.append((tensors[0].rows, tensors[1].rows, node))

    def _builtin(self, name: str, args: Sequence[Any]) -> Any:
        if name == "len" and args and isinstance(args[0], Tensor):
            return args[0].size if args[0].flat else len(args[0].rows)
        if any(isinstance(each, (Unknown, Tensor)) for each in args):
            return next((each for each in args if isinstance(each, Tensor)), UNKNOWN)
        try:
            return FUNCTIONS[name](*args)
        except (TypeError, ValueError, ArithmeticError):
            return UNKNOWN

    @staticmethod
    def _method(owner: Tensor, last: str, args: Sequence[Any]) -> Any:
        if last in ("numel", "nelement"):
            return owner.size
        if last in ("size", "dim", "element_size", "tolist") and last != "tolist":
            return owner.size if owner.flat and last == "size" else UNKNOWN
        if last in ("flatten", "ravel") or (last in ("reshape", "view") and list(args) == [-1]):
            return Tensor(owner.rows, True)
        if last in ("reshape", "view", "unflatten") and len(args) > 1 and isinstance(args[-1], int):
            return owner.split(args[-1])
        if last == "narrow" and len(args) > 2 and all(isinstance(each, int) for each in args):
            return owner.part(slice(args[1], args[1] + args[2]))
        return next((each for each in reversed(args) if isinstance(each, Tensor)), owner)

    def _of_library(self, last: str, node: ast.Call, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        if last in ("zeros", "empty", "full", "ones") and args and isinstance(args[0], int) and len(args) > 1:
            return Tensor([None] * min(args[0], STEPS))
        if last in ("get", "getenv") and len(args) == 2:
            return args[1]
        if last == "getattr" and len(args) > 1 and isinstance(args[1], str):
            return self.named(args[1], self.settings.get(args[1], args[2] if len(args) > 2 else UNKNOWN))
        if last in ("stack", "cat", "concatenate") and args and isinstance(args[0], list):
            parts = [each for each in args[0] if isinstance(each, Tensor)]
            is_flat = last != "stack" and all(each.flat for each in parts)
            if is_flat and any(a and b and a[0][0] >= b[-1][1] for a, b in pairwise(each.spans for each in parts)):
                self.events.append(("ahead", parts[0].spans, node, self.doubt > 0))
            return Tensor([row for each in parts for row in each.rows], is_flat) if parts else UNKNOWN
        if last in ("tqdm", "trange") and args:
            return args[0]
        found = [each for each in (*args, *named.values()) if isinstance(each, Tensor)]
        return found[-1] if found else drawn(args, named) if last in DRAWN else UNKNOWN

    @staticmethod
    def _same(owner: Any, last: str) -> bool:
        """Whether a method gives its list back: order.tolist()"""
        return isinstance(owner, list) and last in ("tolist", "copy", "numpy", "cpu")


def is_fixed(node: ast.expr) -> bool:
    """Whether a number is written down or an option: nothing that was computed of the text."""
    if isinstance(node, ast.BinOp):
        return all(isinstance(each, (ast.Constant, ast.BinOp)) and is_fixed(each) for each in (node.left, node.right))
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") == "int" and len(node.args) == 1 and is_fixed(node.args[0])
    is_size = isinstance(node, (ast.Name, ast.Attribute)) and re.search(
        r"total|usable|^n$|num_|_end$|^end|^n_|len|size|stop", getattr(node, "id", getattr(node, "attr", "")).lower()
    )
    return isinstance(node, (ast.Constant, ast.Name, ast.Attribute)) and not is_size
