"""The arithmetic of an evaluation is done: an interpreter of its whole numbers, lists and slices of the text.

Of everything else it knows nothing, except which positions of the text a tensor is about. What is scored and what is
learned is kept in `events`, in the order in which it is done. Branches that nobody can decide are both taken, loops
over unknown things go round once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .index_known import UNKNOWN, Cap, Stop
from .index_values import NO_SUM, Expressions, is_fixed
from .spans import Tensor
from .text_values import parameters


class Interpreter(Expressions):
    """Statements."""

    def run(self, function: ast.FunctionDef | ast.AsyncFunctionDef, given: Mapping[str, Any]) -> Any:
        """What a function returns. Raises Unsure."""
        names = parameters(function)
        scope: dict[str, Any] = {}
        defaults = zip(names[::-1], reversed(function.args.defaults), strict=False)
        keywords = zip((each.arg for each in function.args.kwonlyargs), function.args.kw_defaults, strict=False)
        for name, default in (*defaults, *keywords):
            scope[name] = UNKNOWN if default is None else self.value(default, scope)
        for name in (*names, *(each.arg for each in function.args.kwonlyargs)):
            scope[name] = self.named(name, given.get(name, scope.get(name, UNKNOWN)))
        self.depth += 1
        doubt, self.doubt = self.doubt, 0
        try:
            self.block(function.body, scope)
        except Stop as stop:
            return stop.value
        finally:
            self.depth -= 1
            self.doubt = doubt
        return None

    def block(self, body: Sequence[ast.stmt], scope: dict[str, Any]) -> None:
        for node in body:
            self.count()
            happen = getattr(self, f"_{type(node).__name__}", None)
            if happen is not None:
                happen(node, scope)

    def _Expr(self, node: ast.Expr, scope: dict[str, Any]) -> None:
        self.value(node.value, scope)

    def _Assign(self, node: ast.Assign, scope: dict[str, Any]) -> None:
        found = self.value(node.value, scope)
        for target in node.targets:
            self.bind(target, found, scope)

    def _AnnAssign(self, node: ast.AnnAssign, scope: dict[str, Any]) -> None:
        if node.value is not None:
            self.bind(node.target, self.value(node.value, scope), scope)

    def _AugAssign(self, node: ast.AugAssign, scope: dict[str, Any]) -> None:
        added = self.value(node.value, scope)
        name = self.shown(node.target)
        if isinstance(added, Tensor) and isinstance(node.op, (ast.Add, ast.Sub)) and not NO_SUM.search(name.lower()):
            self.events.append(("scored", added.spans, node, self.doubt > 0))
        elif isinstance(node.target, ast.Name):
            before = scope.get(node.target.id, UNKNOWN)
            scope[node.target.id] = self.operated(node.op, before, added)

    def bind(self, target: ast.expr, found: Any, scope: dict[str, Any]) -> None:
        match target:
            case ast.Name(id=name):
                scope[name] = self.named(name, found)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                known = list(found) if isinstance(found, (list, tuple, range)) and len(found) == len(parts) else None
                for i, part in enumerate(parts):
                    self.bind(part, UNKNOWN if known is None else known[i], scope)
            case ast.Subscript(value=owner, slice=index):
                self._put(self.value(owner, scope), self.index(index, scope), found)

    @staticmethod
    def _put(held: Any, index: Any, found: Any) -> None:
        first = index[0] if isinstance(index, tuple) and index else index
        if isinstance(held, Tensor):
            is_row = isinstance(first, int) and -len(held.rows) <= first < len(held.rows)
            if is_row and isinstance(found, Tensor) and found.rows:
                held.rows[first] = found.rows[0]
        elif isinstance(held, dict) and isinstance(index, (int, str)):
            held[index] = found
        elif isinstance(held, list) and isinstance(first, int) and -len(held) <= first < len(held):
            held[first] = found

    def _If(self, node: ast.If, scope: dict[str, Any]) -> None:
        holds = self.holds(node.test, scope)
        if holds is not None:
            self._may_break(node, scope)
            self.block(node.body if holds else node.orelse, scope)
            return
        if isinstance(node.body[-1], ast.Break) and re.search(r"time|elapsed|clock", self.shown(node.test)):
            self.caps.append(Cap(node.test, 0, 1))  # where the time is over
        for body in (node.body, node.orelse):
            self._maybe(body, scope)

    def _may_break(self, node: ast.If, scope: dict[str, Any]) -> None:
        """if i >= limit: break; which it may do where the text is longer."""
        match node:
            case ast.If(
                test=ast.Compare(
                    left=ast.Name() as counter, ops=[ast.GtE() | ast.Gt() | ast.Eq()], comparators=[bound]
                ),
                body=[*_, ast.Break()],
            ):
                found, at = self.value(bound, scope), self.value(counter, scope)
                if isinstance(found, int) and isinstance(at, int) and at <= found and is_fixed(bound):
                    self.caps.append(Cap(node.test, found, at + 1))

    def _maybe(self, body: Sequence[ast.stmt], scope: dict[str, Any]) -> None:
        self.doubt += 1
        try:
            self.block(body, scope)
        except Stop:
            pass  # it may go on as well
        finally:
            self.doubt -= 1

    def _For(self, node: ast.For, scope: dict[str, Any]) -> None:
        over = self.value(node.iter, scope)
        known = over if isinstance(over, (list, tuple, range, set, dict)) else None
        if isinstance(over, Tensor) and not over.flat:
            known = [Tensor([row], True) for row in over.rows]
        for each in [UNKNOWN] if known is None else known:
            self.count()
            self.bind(node.target, each, scope)
            if self._breaks(node.body, scope, known is not None):
                break

    def _While(self, node: ast.While, scope: dict[str, Any]) -> None:
        while (holds := self.holds(node.test, scope)) is not False:
            self.count()
            if self._breaks(node.body, scope, holds is not None) or holds is None:
                break

    def _breaks(self, body: list[ast.stmt], scope: dict[str, Any], is_sure: bool) -> bool:
        """Carries out a body once, which may be left out where it is not `is_sure`; whether that ends its loop."""
        try:
            (self.block if is_sure else self._maybe)(body, scope)
        except Stop as stop:
            if stop.kind == "return":
                raise
            return stop.kind == "break"
        return False

    def _With(self, node: ast.With, scope: dict[str, Any]) -> None:
        self.block(node.body, scope)

    def _Try(self, node: ast.Try, scope: dict[str, Any]) -> None:
        self.block([*node.body, *node.orelse, *node.finalbody], scope)

    def _Return(self, node: ast.Return, scope: dict[str, Any]) -> None:
        raise Stop("return", None if node.value is None else self.value(node.value, scope))

    def _Break(self, _: ast.Break, scope: dict[str, Any]) -> None:
        raise Stop("break")

    def _Continue(self, _: ast.Continue, scope: dict[str, Any]) -> None:
        raise Stop("continue")

    def _FunctionDef(self, node: ast.FunctionDef, scope: dict[str, Any]) -> None:
        scope[node.name] = node
