"""A Python file as a syntax tree in which names mean what Python makes of them; nothing here runs it.

    from os import system as s; f = s; f(f"wget {u}")   ->   name_of: "os.system"; texts_of: "wget ?"

Seen through: aliases of imports and assignments, `getattr(m, "f")`, `__import__("m")`, `sys.modules["m"]`, and
`m.__dict__`.
A text is known as far as it is written down; `UNKNOWN` stands for the rest. Values flow from assignments, loops over
literals and call sites into names, whatever the order of execution: too many rather than too few.
"""

from __future__ import annotations

import ast
import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from .hoist import hoist_sums_
from .older import as_older
from .texts import UNKNOWN, texts_of

NODES = 400_000  # of a syntax tree; the largest public script has about 60,000
DEPTH = 8  # of aliases
INTEGER_BITS = 8192  # of a whole number; Python writes down no more than 4,300 digits of one
LONG = 1 << 16  # bytes of a source that may hold tables
_ROW = re.compile(rb"(?:[-+]?\d[\d_]*(?:\.\d*)?(?:e[-+]?\d+)?,\s{0,40}){256,}")
BUILTINS = ("builtins.", "__builtins__.")


@dataclass(frozen=True)
class Place:
    """Something found in a file. `line` counts from 1, 0 for the whole; of an extracted `layer`, in that layer."""

    file: str
    line: int
    what: str
    layer: int = 0

    def __str__(self) -> str:
        title = f"{self.file} (extracted)" if self.layer else self.file
        where = f"{title} line {self.line}" if self.line else title
        return f"{where}: {self.what}"


@dataclass(frozen=True)
class Script:
    """One layer of a Python file: the file itself, or what it extracts and executes (`layer` > 0)."""

    name: str
    text: bytes
    layer: int = 0

    @cached_property
    def parsed(self) -> tuple[ast.Module | None, str]:
        """(syntax tree, '') or (None, why there is none); both of what only a newer Python runs as it stands."""
        tree, why = _parsed(_without_tables(self.text))
        if tree is None and why:
            with contextlib.suppress(ValueError, LookupError, SyntaxError):
                tree = _parsed(as_older(self.text))[0]
        if tree is None:
            return None, why
        for count, _ in enumerate(ast.walk(tree)):
            if count > NODES:
                return None, f"more than {NODES:,} nodes"
        hoist_sums_(tree)
        return tree, why

    @property
    def error(self) -> str:
        return self.parsed[1]

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node, breadth first; none when the text does not parse."""
        tree = self.parsed[0]
        return () if tree is None else tuple(ast.walk(tree))

    @property
    def title(self) -> str:
        return self.name if self.layer == 0 else f"{self.name} (extracted)"

    @property
    def fault(self) -> Place:
        """Where and why it does not parse."""
        found = re.search(r"^(.*) \(line (\d+)\)$", self.error, re.S)
        return Place(self.name, int(found[2]) if found else 0, found[1] if found else self.error, self.layer)

    def place(self, node: ast.AST, what: str) -> Place:
        return Place(self.name, getattr(node, "lineno", 0), what, self.layer)

    @cached_property
    def imported(self) -> dict[str, str]:
        """Name -> the dotted name that an import binds to it."""
        found: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                found |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
        return found

    @cached_property
    def called(self) -> frozenset[int]:
        """Ids of the expressions that are called."""
        return frozenset(id(node.func) for node in self.nodes if isinstance(node, ast.Call))

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        """Functions and methods by their name, the last one of a name."""
        return {n.name: n for n in self.nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}

    @cached_property
    def handed(self) -> dict[str, list[tuple[ast.Call, int]]]:
        """Name -> the calls that it stands in, and where: 0 as what is called, 1 as the first argument, and so on."""
        found: dict[str, list[tuple[ast.Call, int]]] = {}
        for node in self.nodes:
            for i, each in enumerate([node.func, *node.args] if isinstance(node, ast.Call) else []):
                at = found.setdefault(getattr(each, "id", ""), [])
                if isinstance(node, ast.Call) and (not at or at[-1][0] is not node):
                    at.append((node, i))
        return found

    @cached_property
    def values(self) -> dict[str, list[ast.expr]]:
        """Name -> every expression that some statement or call site gives it."""
        found: dict[str, list[ast.expr]] = {}
        literals = {
            target.id: node.value
            for node in self.nodes
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in self.nodes:
            for name, value in _bindings(node, self.functions, literals):
                found.setdefault(name, []).append(value)
        return found

    @cached_property
    def _names(self) -> dict[int, str | None]:
        """Id of each node of the tree -> its name, as far as somebody has asked for it."""
        return dict.fromkeys(map(id, self.nodes))

    def name_of(self, node: ast.AST, depth: int = 0) -> str:
        """`torch.load` of what is called torch.load in the end; only the last words where the start is computed."""
        if depth > DEPTH:
            return ""
        known = self._names.get(id(node)) if depth == 0 else None
        if known is not None:
            return known
        name = self._name_of(node, depth)
        if depth == 0 and id(node) in self._names:
            self._names[id(node)] = name
        return name

    def _name_of(self, node: ast.AST, depth: int) -> str:
        match node:
            case ast.Name(id=name):
                return self._name_of_variable(name, depth)
            case ast.Attribute(value=value, attr=attr):
                return _plain(f"{base}.{attr}" if (base := self.name_of(value, depth + 1)) else attr)
            case ast.Call(func=func, args=[first, *rest]):
                return self._name_of_result(self.name_of(func, depth + 1), first, rest, depth + 1)
            case ast.Subscript(value=value, slice=index) if text := self.text_of(index):
                return self._name_of_item(self.name_of(value, depth + 1), value, text)
        return ""

    @staticmethod
    def _name_of_item(base: str, owner: ast.expr, text: str) -> str:
        if base == "sys.modules" or (isinstance(owner, ast.Call) and ast.unparse(owner) in ("globals()", "locals()")):
            return text
        if base.endswith(".__dict__") or isinstance(owner, ast.Call):
            return _plain(f"{base.removesuffix('.__dict__')}.{text}".lstrip("."))
        return ""

    def _name_of_variable(self, name: str, depth: int) -> str:
        if name in self.imported:
            return self.imported[name]
        given = self.values.get(name, [])
        if len(given) == 1 and _may_be_alias(given[0]):
            return self.name_of(given[0], depth + 1) or name
        return name

    def _name_of_result(self, called: str, first: ast.expr, rest: list[ast.expr], depth: int) -> str:
        """What a call gives back that looks names up."""
        if called == "getattr" and rest and (text := self.text_of(rest[0])):
            return _plain(f"{self.name_of(first, depth)}.{text}".lstrip("."))
        if called in ("__import__", "importlib.import_module", "importlib.__import__"):
            return self.text_of(first)
        return self.name_of(first, depth) if called in ("functools.partial", "vars") else ""

    def is_local(self, node: ast.expr, name: str) -> bool:
        """Whether a dotted name starts with a variable of the script rather than with a module."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id not in self.imported and name.partition(".")[0] == node.id

    def text_of(self, node: ast.AST) -> str:
        """The one text that an expression is known to be, else ''."""
        found = list(islice(self.texts_of(node), 2))
        return found[0] if len(found) == 1 and UNKNOWN not in found[0] else ""

    def texts_of(self, node: ast.AST) -> Iterator[str]:
        """The texts that an expression may be, with UNKNOWN for what is not written down."""
        yield from texts_of(node, self.values)


def _plain(name: str) -> str:
    """Without the module of the built-in names, which is there anyhow."""
    for head in BUILTINS:
        name = name.removeprefix(head)
    return name


def _may_be_alias(node: ast.expr) -> bool:
    """Names, attributes, and the calls and subscripts that name_of sees through."""
    if isinstance(node, ast.Call):
        last = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return last in ("getattr", "__import__", "import_module", "partial")
    return isinstance(node, (ast.Name, ast.Attribute, ast.Subscript))


def _bindings(
    node: ast.AST, functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef], literals: dict[str, ast.expr]
) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _unpacked(target, value)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case (
            ast.AugAssign(target=ast.Name(id=name), value=value)
            | ast.NamedExpr(target=ast.Name(id=name), value=value)
        ):
            yield name, value
        case (
            ast.For(target=target, iter=source)
            | ast.comprehension(target=target, iter=source)
            | ast.AsyncFor(target=target, iter=source)
        ):
            for value in _items(source, literals):
                yield from _unpacked(target, value)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=keywords):
            if name in functions:
                names = [given.arg for given in functions[name].args.args]
                names = names[1:] if names[:1] in (["self"], ["cls"]) else names
                yield from zip(names, args, strict=False)
                yield from ((given.arg, given.value) for given in keywords if given.arg in names and given.arg)
        case ast.FunctionDef(args=arguments):
            yield from zip(
                [given.arg for given in arguments.args][-len(arguments.defaults) :], arguments.defaults, strict=False
            )


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List)):
        for inner, part in zip(target.elts, value.elts, strict=False):
            yield from _unpacked(inner, part)


def _items(source: ast.expr, literals: dict[str, ast.expr]) -> Iterator[ast.expr]:
    """What a loop over a literal goes through: elements, or keys and pairs of a dictionary."""
    match source:
        case ast.Name(id=name) if not isinstance(literals.get(name, source), ast.Name):
            yield from _items(literals[name], {})
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="items")) if isinstance(
            literals.get(name), ast.Dict
        ):
            yield from _items(ast.Call(ast.Attribute(literals[name], "items", ast.Load()), [], []), {})
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            yield from parts
        case ast.Dict(keys=keys):
            yield from (key for key in keys if key is not None)
        case ast.Call(func=ast.Attribute(value=ast.Dict(keys=keys, values=values), attr="items")):
            for key, value in zip(keys, values, strict=True):
                if key is not None:
                    yield ast.Tuple([key, value], ast.Load())


def calls(scripts: Iterable[Script]) -> Iterator[tuple[Script, ast.Call, str]]:
    """(script, call, dotted name of what is called)."""
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, ast.Call):
                yield script, node, script.name_of(node.func)


def references(scripts: Iterable[Script]) -> Iterator[tuple[Script, ast.expr, str]]:
    """(script, expression, dotted name) of every name that is read, called or not."""
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                yield script, node, script.name_of(node)


def _without_tables(text: bytes) -> bytes:
    """A source without its long rows of numbers, where it is too large to hold nothing else; lines stay lines."""
    return text if len(text) < LONG else _ROW.sub(lambda row: b"0," + b"\n" * row[0].count(b"\n"), text)


def _parsed(text: bytes | str) -> tuple[ast.Module | None, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            return None, f"{error.msg} (line {error.lineno})"
        except (ValueError, RecursionError, MemoryError) as error:
            return None, str(error) or type(error).__name__
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value.bit_length() > INTEGER_BITS:
            node.value = 0  # packed data, which the script unpacks behind the fence; nobody reads its digits
    return tree, ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The expression that a call gives for a keyword."""
    return next((given.value for given in call.keywords if given.arg == name), None)
