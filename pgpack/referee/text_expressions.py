"""What an expression of a walked script is known to be; functions of the script are walked where they are called."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .launch import Launch
from .script import Script
from .text_events import Event, Loop, scored
from .text_names import SPLITS, is_evaluated_path, names_evaluated, names_number, names_training
from .text_splits import leaves_out, lists_every_shard, selects
from .text_values import DICTIONARY, FUNCTION, NOTHING, Call, Definitions, Kind, Scope, Value, decorators, path_of

VISITS = 400_000  # of expressions and statements
WRITTEN = 6  # elements of a list that are gone through one by one
_SIZES = {"shape", "dtype", "device", "ndim", "nbytes", "itemsize", "is_cuda", "training", "grad"}


class Expressions(ABC):
    """Expressions. `attributes`: object -> its attributes; `events`: what has happened since somebody emptied it."""

    def __init__(self, scripts: Sequence[Script], given: Launch) -> None:
        self.scripts, self.given = scripts, given
        self.definitions = Definitions(scripts)
        self.attributes: dict[Kind, dict[str, Value]] = {}
        self.closures: dict[int, Scope] = {}
        self.globals: dict[str, Value] = {}
        self.options: dict[str, Value] = {}  # of a command line, with their defaults
        self.rows: dict[str, set[str]] = {}  # a name that holds a row of a table -> the tables
        self.events: list[Event] = []
        self.loops: tuple[Loop, ...] = ()  # that are gone through, of the function that is walked
        self.is_training = False  # the innermost loop takes steps
        self.is_choice = False  # a loss of evaluated text has led here
        self.reached: set[int] = set()
        self.entered: dict[tuple[int, str], Value] = {}  # (function, parameter) -> what it was ever given
        self.given_back: dict[int, Value] = {}  # function -> what it ever gave back
        self.known: dict[tuple[object, ...], tuple[Value, tuple[Event, ...]]] = {}
        self.visits = self.depth = self.site = 0  # the call that is made

    @abstractmethod
    def block(self, body: Sequence[ast.stmt], scope: Scope) -> None:
        """Statements happen."""

    @abstractmethod
    def bind(self, target: ast.expr, found: Value, source: ast.expr, scope: Scope) -> None:
        """A target gets what was found of its source."""

    @abstractmethod
    def run(self, call: Call) -> Value:
        """What a function gives back; what it does has happened."""

    def happened(self, *events: Event | None) -> None:
        """Events take place, in the loops that are gone through."""
        self.events += [replace(each, loops=(*self.loops, *each.loops)) for each in events if each is not None]

    @staticmethod
    def any(values: Sequence[Value]) -> Value:
        """Something made of all of these."""
        found = NOTHING
        for value in values:
            found |= value.plain
        return found

    def has_time(self) -> bool:
        self.visits += 1
        return self.visits < VISITS

    @staticmethod
    def called(name: str, found: Value) -> Value:
        """What a variable holds: what is not known to be training text is what its name says."""
        if found.text or found.training:
            return found
        return replace(
            found, text=names_evaluated(name) and found.word in (None, "0", "None"), training=names_training(name)
        )

    def decided(self, test: ast.expr, scope: Scope) -> bool | None:
        """Whether a test of known words holds, None when that is not known."""
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.decided(operand, scope)
                return None if inner is None else not inner
            case ast.BoolOp(op=ast.And(), values=parts):
                return False if any(self.decided(part, scope) is False for part in parts) else None
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                return self._compared(left, operator, right, scope)
            case ast.Name() | ast.Attribute() | ast.Call() | ast.Constant():
                word = self.value(test, scope).word
                return None if word is None else word.lower() not in ("0", "", "false", "none")
        return None

    def _compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, scope: Scope) -> bool | None:
        several = right.elts if isinstance(right, (ast.Tuple, ast.List, ast.Set)) else [right]
        one, others = self.value(left, scope).word, [self.value(each, scope).word for each in several]
        if one is None or None in others or not isinstance(operator, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
            return None
        among = isinstance(operator, (ast.In, ast.NotIn)) and len(several) == 1
        same = one in str(others[0]) if among else one in others
        return same if isinstance(operator, (ast.Eq, ast.In)) else not same

    def element(self, found: Value) -> Value:
        """What a loop over a value goes through."""
        if found.kind is None:
            return found.plain
        for name in ("__iter__", "__next__", "__getitem__"):
            if (method := self.definitions.method(found.kind, name)) is not None:
                return self.run(Call(*method, found.kind)).plain | Value(found.text)
        return self.whole(found)

    def whole(self, found: Value) -> Value:
        """What an object holds: evaluated text if some attribute does and none holds training text."""
        if found.kind is None:
            return found.plain
        held = self.attributes.get(found.kind, {}).values()
        training = found.training or any(value.training for value in held)
        text = found.text or (any(value.text for value in held) and not training)
        return replace(self.any([found, *held]), text=text, training=training)

    def value(self, node: ast.expr, scope: Scope) -> Value:
        """What is known of an expression; calls in it happen."""
        if not self.has_time():
            return NOTHING
        read: Callable[[Any, Scope], Value] | None = getattr(self, f"_{type(node).__name__}", None)
        return self._of_parts(node, scope) if read is None else read(node, scope)

    def told(self, scope: Scope, targets: Sequence[ast.expr]) -> Callable[[ast.expr], str | None]:
        """What names stand for, for those who ask: the text of a name, '' of a loop's, None where it is not known."""
        own = {node.id for each in targets for node in ast.walk(each) if isinstance(node, ast.Name)}

        def text_of(node: ast.expr) -> str | None:
            path = path_of(node)
            return "" if path in own else (scope.find(path) or NOTHING).word if path else None

        return text_of

    def _of_parts(self, node: ast.expr, scope: Scope) -> Value:
        parts = [self.value(child, scope) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        return self.any([self.whole(part) for part in parts])

    def _Constant(self, node: ast.Constant, scope: Scope) -> Value:
        return self.constant(node.value) if isinstance(node.value, str) else Value(word=str(node.value))

    def constant(self, word: str) -> Value:
        """A text that is written down, maybe a path."""
        is_path = len(word) < 400
        return Value(is_path and self.is_evaluated(word), is_path and "fineweb_train" in word, None, word)

    def is_evaluated(self, path: str) -> bool:
        """Whether a path is of the validation split, or of a copy of it."""
        return is_evaluated_path(path) or path.rpartition("/")[2] in self.given.copies

    def of_environment(self, name: str | None, otherwise: Value, scope: Scope) -> Value:
        """An environment variable that the script has set, or that is set where it is started."""
        if (known := scope.find(f"os.environ.{name}")) is not None:
            return known
        if name is None or name not in self.given:
            return otherwise
        word = self.given.variable(name)
        return NOTHING if word is None else self.constant(word)

    def _Name(self, node: ast.Name, scope: Scope) -> Value:
        found = scope.find(node.id) or self.globals.get(node.id)
        if found is None and node.id in self.definitions.functions:
            return Value(kind=(FUNCTION, node.id, None))
        return Value(names_evaluated(node.id), names_training(node.id)) if found is None else found

    def _Lambda(self, node: ast.Lambda, scope: Scope) -> Value:
        if (function := self.definitions.lambdas.get(id(node))) is None:
            return self._of_parts(node, scope)
        self.closures[id(function)] = scope
        return Value(kind=(FUNCTION, function.name, None))

    def _IfExp(self, node: ast.IfExp, scope: Scope) -> Value:
        tested = self.value(node.test, scope)
        chosen = self.decided(node.test, scope)
        if chosen is not None:
            return self.value(node.body if chosen else node.orelse, scope)
        found = self.value(node.body, scope) | self.value(node.orelse, scope)
        return replace(found, chosen=True) if tested.chosen else found

    def _Compare(self, node: ast.Compare, scope: Scope) -> Value:
        return Value(chosen=self._of_parts(node, scope).chosen)

    def _NamedExpr(self, node: ast.NamedExpr, scope: Scope) -> Value:
        found = self.value(node.value, scope)
        self.bind(node.target, found, node.value, scope)
        return found

    def _Yield(self, node: ast.Yield | ast.YieldFrom, scope: Scope) -> Value:
        found = NOTHING if node.value is None else self.value(node.value, scope)
        scope.returned |= found
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] if node.value else []
        told = [self.value(part, scope) for part in parts] if len(parts) > 1 else [found]
        if any(not each.text and (each.number or each.seen) for each in told):
            self.happened(scored(scope.script, node, "yield"))
        return NOTHING

    def _Starred(self, node: ast.Starred | ast.FormattedValue | ast.Await, scope: Scope) -> Value:
        return self.value(node.value, scope)

    def _BinOp(self, node: ast.BinOp, scope: Scope) -> Value:
        if isinstance(node.op, ast.Mod) and (text := self._filled_in(node, scope)) is not None:
            return self.constant(text)
        return self.joined([node.left, node.right], "/" if isinstance(node.op, ast.Div) else "", scope)

    def _filled_in(self, node: ast.BinOp, scope: Scope) -> str | None:
        """ "fineweb_%s_*.bin" % "val", None of what is no text or not known."""
        parts = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
        pattern, given = self.value(node.left, scope).word, [self.value(part, scope).word for part in parts]
        if pattern is None or pattern.count("%s") != len(given) or None in given:
            return None
        for word in given:
            pattern = pattern.replace("%s", str(word), 1)
        return pattern

    def _JoinedStr(self, node: ast.JoinedStr, scope: Scope) -> Value:
        return self.joined(node.values, "", scope)

    def _ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, scope: Scope) -> Value:
        return self._comprehended([node.elt], node.generators, scope)

    def _DictComp(self, node: ast.DictComp, scope: Scope) -> Value:
        return self._comprehended([node.key, node.value], node.generators, scope)

    _YieldFrom, _FormattedValue, _Await, _SetComp, _GeneratorExp = _Yield, _Starred, _Starred, _ListComp, _ListComp

    def _Attribute(self, node: ast.Attribute, scope: Scope) -> Value:
        base = self.value(node.value, scope)
        if node.attr in _SIZES:
            return NOTHING
        if (known := scope.find(path_of(node))) is not None:
            return known
        by_name = Value(names_evaluated(node.attr), names_training(node.attr))
        if isinstance(node.value, ast.Name) and node.value.id in self.definitions.bases:
            base = Value(kind=(node.value.id,))
        if base.kind is not None:
            return self._of_object(base.kind, node.attr, by_name, scope)
        if by_name.text or by_name.training:
            return by_name
        return self.options[node.attr] if node.attr in self.options and base == NOTHING else base.plain

    def _of_object(self, owner: Kind, attribute: str, by_name: Value, scope: Scope) -> Value:
        """What an object of the script has under a name: what it was given, a property or a method."""
        for kind in (owner, *((each,) for each in self.definitions.classes(str(owner[0])))):
            if attribute in self.attributes.get(kind, {}):
                return self.attributes[kind][attribute]
        if (method := self.definitions.method(owner, attribute)) is None:
            return by_name
        if decorators(*method) & {"property", "cached_property"}:
            return self.run(Call(*method, owner, graded=scope.graded))
        return Value(kind=(FUNCTION, attribute, owner))

    def _Subscript(self, node: ast.Subscript, scope: Scope) -> Value:
        base, index = self.value(node.value, scope), self.value(node.slice, scope)
        if isinstance(node.slice, ast.Slice) and (part := _part_of_text(node, base)) is not None:
            return self.constant(part)
        key = index.word
        if (known := scope.find(path_of(node))) is not None:
            return known
        if key in self.given and scope.script.name_of(node.value) == "os.environ":
            return self.of_environment(key, NOTHING, scope)
        if base.kind is not None and key is not None and key in self.attributes.get(base.kind, {}):
            return self.attributes[base.kind][key]
        if key is not None and (key in SPLITS or names_evaluated(key) or names_training(key)):
            return Value(not names_training(key), names_training(key))
        found = self.element(base) | Value(chosen=index.chosen)
        return replace(found, number=True) if index.learned and not found.learned else found

    def _Dict(self, node: ast.Dict, scope: Scope) -> Value:
        kind: Kind = (DICTIONARY, id(node), scope.own)
        held = self.attributes.setdefault(kind, {})
        for key, value in zip(node.keys, node.values, strict=True):
            word = None if key is None else self.value(key, scope).word
            found = self.value(value, scope)
            held["" if word is None else word] = found.forgotten if word and names_number(word) else found
        return Value(kind=kind)

    def joined(self, parts: Sequence[ast.expr], glue: str, scope: Scope) -> Value:
        found = [self.value(part, scope) for part in parts]
        text = glue.join("0" if value.word is None else value.word for value in found)
        word = text if all(value.word is not None for value in found) else None
        said = Value(self.is_evaluated(text), "fineweb_train" in text, None, word)
        return said | replace(self.any([self.whole(value) for value in found]), word=word)

    def _comprehended(self, results: Sequence[ast.expr], loops: Sequence[ast.comprehension], scope: Scope) -> Value:
        inner = Scope(scope.script, {}, scope, scope.own, scope.graded)
        told = self.told(inner, [loop.target for loop in loops])
        selected = lists_every_shard(
            [loop.iter for loop in loops], [test for loop in loops for test in loop.ifs], told
        )
        for i, loop in enumerate(loops):
            written = loop.iter.elts if isinstance(loop.iter, (ast.Tuple, ast.List)) else []
            if all(isinstance(each, ast.Constant) for each in written) and 0 < len(written) <= WRITTEN:
                return self.any([self._one_of(each, results, loops[i:], inner) for each in written]) | Value(selected)
            found = self.element(self.value(loop.iter, inner))
            self.bind(loop.target, found, loop.iter, inner)
            for test in loop.ifs:
                self.value(test, inner)
                selected |= selects(test, told)
            if any(leaves_out(test, told) for test in loop.ifs):
                self.bind(loop.target, Value(training=True), loop.iter, inner)
        return self.any([self.whole(self.value(result, inner)) for result in results]) | Value(selected)

    def _one_of(
        self, each: ast.expr, results: Sequence[ast.expr], loops: Sequence[ast.comprehension], scope: Scope
    ) -> Value:
        """A comprehension for one of the constants that its first loop goes through."""
        self.bind(loops[0].target, self.value(each, scope), each, scope)
        for test in loops[0].ifs:
            self.value(test, scope)
        return self._comprehended(results, loops[1:], scope)


def _part_of_text(node: ast.Subscript, base: Value) -> str | None:
    """'lav'[::-1], None of what is no text that is written down."""
    ends = [getattr(node.slice, name, None) for name in ("lower", "upper", "step")]
    if base.word is None or base.kind is not None or not isinstance(node.value, (ast.Constant, ast.Name)):
        return None
    try:
        numbers = [None if each is None else ast.literal_eval(each) for each in ends]
        return base.word[slice(*numbers)]
    except (ValueError, TypeError):
        return None
