"""The texts that an expression may be, as far as they are written down; `UNKNOWN` stands for the rest.

    f"wget {u}" -> "wget ?"     ["pip", "install", x] -> "pip install ?"     here / "a.py" -> "?/a.py"

Owns how texts are put together; what a name may stand for comes as a mapping from names to expressions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
DEPTH = 8  # of values that a name stands for
TEXTS = 24  # that one expression may be
OF_ARGUMENT = ("str", "fspath", "split", "abspath", "expanduser", "realpath", "quote", "dedent", "fsencode", "bytes")
PROGRAMS = ("which", "find_executable")  # answer with the path of a program of that name
OF_OWNER = ("strip", "lower", "encode", "decode", "resolve", "split", "as_posix", "absolute", "lstrip", "rstrip")


def texts_of(node: ast.AST, values: Mapping[str, Sequence[ast.expr]]) -> Iterator[str]:
    """The texts of an expression, each once."""
    yield from dict.fromkeys(islice(_Reader(values).read(node, 0), TEXTS))


@dataclass(frozen=True)
class _Reader:
    values: Mapping[str, Sequence[ast.expr]]

    def read(self, node: ast.AST, depth: int) -> Iterator[str]:
        if depth > DEPTH:
            yield UNKNOWN
            return
        below = depth + 1
        match node:
            case ast.Constant(value=value):
                yield value.decode("latin-1") if isinstance(value, bytes) else str(value)
            case ast.JoinedStr(values=parts):
                yield from self._joined(parts, "", below)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                yield from self._joined(parts, " ", below)
            case (
                ast.FormattedValue(value=value)
                | ast.Starred(value=value)
                | ast.NamedExpr(value=value)
                | ast.Await(value=value)
            ):
                yield from self.read(value, below)
            case ast.BinOp():
                yield from self._operated(node, below)
            case ast.IfExp(body=first, orelse=second):
                yield from self._any([first, second], below)
            case ast.BoolOp(values=parts):
                yield from self._any(parts, below)
            case ast.Name(id=name):
                yield from self._any(self.values.get(name, ())[:TEXTS], below)
            case ast.Attribute(attr="executable"):
                yield "python"
            case ast.Call():
                yield from self._called(node, below)
            case _:
                yield UNKNOWN

    def _any(self, nodes: Sequence[ast.expr], depth: int) -> Iterator[str]:
        for node in nodes:
            yield from self.read(node, depth)
        if not nodes:
            yield UNKNOWN

    def _operated(self, node: ast.BinOp, depth: int) -> Iterator[str]:
        if isinstance(node.op, (ast.Add, ast.Div)):
            parts = [*_operands(node, type(node.op))]
            listed = any(isinstance(part, (ast.List, ast.Tuple)) for part in parts)
            yield from self._joined(parts, "/" if isinstance(node.op, ast.Div) else " " if listed else "", depth)
        elif isinstance(node.op, ast.Mod):
            for text in self.read(node.left, depth):
                yield text.replace("%s", UNKNOWN).replace("%d", UNKNOWN)
        else:
            yield UNKNOWN

    def _called(self, node: ast.Call, depth: int) -> Iterator[str]:
        """Calls that only put texts together, and defaults of what is looked up."""
        last = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if last == "join" and isinstance(owner, ast.Constant) and node.args:
            first = node.args[0]
            parts = first.elts if isinstance(first, (ast.List, ast.Tuple)) else [first]
            yield from self._joined(parts, owner.value if isinstance(owner.value, str) else "", depth)
        elif last in ("join", "Path", "joinpath", "PurePath") and node.args:
            head = [owner] if last == "joinpath" and owner is not None else []
            yield from self._joined([*head, *node.args], "/", depth)
        elif last == "format" and owner is not None:
            for text in self.read(owner, depth):
                yield text.replace("{}", UNKNOWN)
        elif last in (*OF_ARGUMENT, *PROGRAMS) and node.args:
            yield from self.read(node.args[0], depth)
        elif last in OF_OWNER and owner is not None:
            yield from self.read(owner, depth)
        else:
            if last in ("get", "getenv") and len(node.args) == 2:
                yield from self.read(node.args[1], depth)
            yield UNKNOWN

    def _joined(self, parts: Iterable[ast.expr], glue: str, depth: int) -> Iterator[str]:
        choices = [list(islice(self.read(part, depth), TEXTS)) or [UNKNOWN] for part in parts]
        for combined in islice(product(*choices), TEXTS):
            yield glue.join(combined)


def _operands(node: ast.expr, operator: type[ast.operator]) -> Iterator[ast.expr]:
    """a, b, c of a + b + c."""
    right: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, operator):
        right.append(node.right)
        node = node.left
    yield node
    yield from reversed(right)
