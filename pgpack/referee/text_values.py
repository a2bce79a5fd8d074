"""What is known of a value of a walked script: whether it comes from evaluated text, and which object it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from .script import Script

Kind = tuple[object, ...]  # an object of the script: its class, where it was made, of which values
Function = ast.FunctionDef | ast.AsyncFunctionDef
DICTIONARY = "a dictionary"
FUNCTION = "a function"  # the class of a function that is handed about: its name, and whose method it is


@dataclass(frozen=True)
class Value:
    """`text`: comes from evaluated text; `training`: from training text; `kind`: the object; `word`: the constant;
    `seen`: computed from evaluated text where nothing computes gradients; `number`: a loss or another number that was
    taken of it; `table`: counts of its tokens; `chosen`: a loss of it, or what one has chosen."""

    text: bool = False
    training: bool = False
    kind: Kind | None = None
    word: str | None = None
    seen: bool = False
    number: bool = False
    table: bool = False
    chosen: bool = False

    def __or__(self, other: Value) -> Value:
        """One or the other."""
        return Value(
            self.text or other.text,
            self.training or other.training,
            self.kind or other.kind,
            self.word if self.word == other.word else None,
            self.seen or other.seen,
            self.number or other.number,
            self.table or other.table,
            self.chosen or other.chosen,
        )

    @property
    def plain(self) -> Value:
        """What is made of it: neither the object nor the constant."""
        return self if self.kind is None and self.word is None else replace(self, kind=None, word=None)

    @property
    def learned(self) -> bool:
        """Whether something of evaluated text is in it."""
        return self.text or self.seen

    @property
    def forgotten(self) -> Value:
        """A number that evaluated text was given, in which nothing of it is left to learn from."""
        known = self.number or self.learned
        return replace(self, text=False, seen=False, number=known, chosen=self.chosen or known)


NOTHING = Value()


class Call(NamedTuple):
    """A function of the script as it is called. `own`: the object whose method it is; `graded`: as of a `Scope`."""

    script: Script
    function: Function
    own: Kind | None = None
    args: Sequence[Value] = ()
    named: Mapping[str, Value] = MappingProxyType({})
    graded: bool = True


@dataclass
class Scope:
    """The names of one call. `own`: the object whose method it is; `graded`: whether gradients are computed there."""

    script: Script
    values: dict[str, Value] = field(default_factory=dict)
    parent: Scope | None = None
    own: Kind | None = None
    graded: bool = True
    returned: Value = NOTHING
    outer: frozenset[str] = frozenset()

    def find(self, path: str) -> Value | None:
        """The value of a name, or of a path such as `batch.x`, here or where the function was defined."""
        scope: Scope | None = self
        while scope is not None:
            if path in scope.values:
                return scope.values[path]
            scope = scope.parent
        return None


class Definitions:
    """The functions, classes and methods of several scripts by name; of one given twice, the first file's."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self.functions: dict[str, tuple[Script, Function]] = {}
        self.lambdas: dict[int, Function] = {}  # of a lambda that is given a name
        self.methods: dict[tuple[str, str], tuple[Script, Function]] = {}
        self.bases: dict[str, list[str]] = {}
        self.fields: dict[str, list[str]] = {}
        for script in reversed(scripts):
            for name, function in _named_lambdas(script):
                self.functions[name] = script, function[1]
                self.lambdas[id(function[0])] = function[1]
            inside = {id(item) for node in script.nodes if isinstance(node, ast.ClassDef) for item in node.body}
            for node in script.nodes:
                if isinstance(node, ast.ClassDef):
                    self._class(script, node)
                elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and id(node) not in inside:
                    self.functions[node.name] = script, node
        self.owners: dict[str, list[str]] = {}  # of a method's name
        for owner, name in self.methods:
            self.owners.setdefault(name, []).append(owner)

    def _class(self, script: Script, node: ast.ClassDef) -> None:
        self.bases[node.name] = [script.name_of(base).rpartition(".")[2] for base in node.bases]
        items = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        self.fields[node.name] = [item.target.id for item in items if isinstance(item.target, ast.Name)]
        for item in node.body:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.methods[node.name, item.name] = script, item

    def classes(self, name: str) -> list[str]:
        """A class of the scripts and those that it inherits from, the nearest first."""
        found = [name]
        for each in found:
            found += [base for base in self.bases.get(each, []) if base in self.bases and base not in found]
        return found

    def method(self, kind: Kind | None, name: str) -> tuple[Script, Function] | None:
        """The method that an object has."""
        if kind is None:
            return None
        return next((m for each in self.classes(str(kind[0])) if (m := self.methods.get((each, name)))), None)

    def function(self, kind: Kind | None) -> tuple[tuple[Script, Function] | None, Kind | None]:
        """The function that a value is, and whose method; (None, None) where it is none."""
        if kind is None or kind[0] != FUNCTION:
            return None, None
        _, name, own = kind
        of = own if isinstance(own, tuple) else None
        return (self.functions.get(str(name)), None) if of is None else (self.method(of, str(name)), of)

    def only_method(self, name: str) -> tuple[Kind, tuple[Script, Function]] | None:
        """The method of that name, if one class alone has it."""
        owners = self.owners.get(name, [])
        return ((owners[0],), self.methods[owners[0], name]) if len(owners) == 1 else None


def _named_lambdas(script: Script) -> Iterator[tuple[str, tuple[ast.Lambda, Function]]]:
    """f = lambda x: y, as the function that it is; not of a name that several are given."""
    for name, values in script.values.items():
        if len(values) == 1 and isinstance(made := values[0], ast.Lambda):
            told = ast.FunctionDef(name=name, args=made.args, body=[ast.Return(value=made.body)], decorator_list=[])
            for node in (told, told.body[0]):
                ast.copy_location(node, made)
            yield name, (made, told)


def path_of(node: ast.AST) -> str:
    """`batch.x` of `batch.x` and of `batch["x"]`; '' of what is no path of names."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{base}.{attr}" if (base := path_of(value)) else ""
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
            return f"{base}.{key}" if (base := path_of(value)) else ""
    return ""


def parameters(function: Function) -> list[str]:
    """The names of a function's positional parameters."""
    return [given.arg for given in (*function.args.posonlyargs, *function.args.args)]


def decorators(script: Script, function: Function) -> set[str]:
    """The last words of what decorates a function."""
    return {script.name_of(getattr(each, "func", each)).rpartition(".")[2] for each in function.decorator_list}
