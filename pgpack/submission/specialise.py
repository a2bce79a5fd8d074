"""A program -> the part of it that its inputs use.

    tree --probes--> instrumented --run on every input--> facts --prune--> smaller tree

What never ran is dropped: branches, functions, handlers, checks that never failed. The result computes the same on
the inputs that were run, and is compared with the original on each of them by whoever asks for it; on other inputs it
may fail, so that the program itself must check what it computed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .assemble import copied, defined_names

Facts = Mapping[int, set[bool]]
Run = Callable[[dict[str, Any]], None]  # runs the program in a namespace on every input

PROBE = "_probe"
NUMBER = "_number"  # attribute of a probed node
_PROBED = (ast.If, ast.IfExp, ast.FunctionDef, ast.ExceptHandler)
_BLOCKS = ("body", "orelse", "finalbody")


def specialise(tree_: ast.Module, roots: Collection[str], run: Run) -> ast.Module:
    """The part of `tree_` that `run` uses; `tree_` itself is used up. Definitions named in `roots` stay whole."""
    for number, node in enumerate(node for node in ast.walk(tree_) if isinstance(node, _PROBED)):
        setattr(node, NUMBER, number)
    facts = _facts(tree_, run)
    return reachable(ast.fix_missing_locations(_Pruner(tree_, facts, roots).visit(tree_)), roots)


def namespace_of(tree: ast.Module, probes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The globals after executing a module."""
    namespace: dict[str, Any] = {"__name__": __name__, **(probes or {})}  # dataclasses look the module up
    exec(compile(ast.fix_missing_locations(tree), "<decoder>", "exec"), namespace)
    return namespace


def _facts(tree: ast.Module, run: Run) -> Facts:
    """Number of a probed node -> the truth values that its test had; of a function or handler {True} if it ran."""
    facts: dict[int, set[bool]] = {}

    def probe(number: int, value: Any) -> Any:
        facts.setdefault(number, set()).add(bool(value))
        return value

    probed = copied(tree)
    for node in ast.walk(probed):
        if isinstance(node, (ast.If, ast.IfExp)):
            node.test = _call(getattr(node, NUMBER), node.test)
        elif isinstance(node, (ast.FunctionDef, ast.ExceptHandler)):
            node.body.insert(0, ast.Expr(_call(getattr(node, NUMBER), ast.Constant(True))))
    run(namespace_of(without_annotations(probed), {PROBE: probe}))
    return facts


def _call(number: int, value: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(PROBE, ast.Load()), [ast.Constant(number), value], [])


class _Pruner(ast.NodeTransformer):
    """Drops what did not run, in place."""

    def __init__(self, tree: ast.Module, facts: Facts, roots: Collection[str]) -> None:
        self.facts, self.roots = facts, roots
        self.empty = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and is_idle(node.body)}

    def visit_Module(self, node: ast.Module) -> Any:
        return self._blocks(node)

    def _values(self, node: ast.AST) -> set[bool]:
        return self.facts.get(getattr(node, NUMBER), set())

    def _blocks(self, node: Any) -> Any:
        self.generic_visit(node)
        for name in _BLOCKS:
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, _ended(block) or ([ast.Pass()] if name == "body" else []))
        return node

    def _visited(self, block: list[ast.stmt]) -> list[ast.AST]:
        """What is left of a block that takes its statement's place."""
        kept: list[ast.AST] = []
        for each in block:
            found = self.visit(each)
            kept += found if isinstance(found, list) else [found] if found is not None else []
        return kept

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if node.name in self.roots:
            return node
        if not self._values(node):
            return None
        node = self._blocks(node)
        _drop_unread(node)
        if node.name == "__post_init__" and is_idle(node.body):
            return None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return self._blocks(node)

    def visit_If(self, node: ast.If) -> Any:
        values = self._values(node)
        if values == {True, False}:
            node = self._blocks(node)
            if is_idle(node.body) and is_idle(node.orelse):
                return None
            return node
        if not values:
            return []
        named = any(isinstance(each, ast.NamedExpr) for each in ast.walk(node.test))
        return [ast.Expr(node.test)] * named + self._visited(node.body if True in values else node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        values = self._values(node)
        plain = not any(isinstance(each, ast.NamedExpr) for each in ast.walk(node.test))
        if len(values) == 1 and plain:
            return self.visit(node.body if True in values else node.orelse)
        return self._blocks(node)

    def visit_Try(self, node: ast.Try) -> Any:
        handlers = [handler for handler in node.handlers if self._values(handler)]
        return self._blocks(node) if handlers or node.finalbody else self._visited([*node.body, *node.orelse])

    def visit_For(self, node: ast.For) -> ast.AST | None:
        node = self._blocks(node)
        return None if is_idle(node.body) and is_idle(node.orelse) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self.empty:
            return None
        self.generic_visit(node)
        return node

    def visit_Assert(self, node: ast.Assert) -> None:
        return None


def is_idle(block: list[ast.stmt]) -> bool:
    """Whether a block does nothing."""
    return all(
        isinstance(each, ast.Pass)
        or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        or (isinstance(each, ast.Return) and each.value is None)
        for each in block
    )


def _ended(block: list[ast.stmt]) -> list[ast.stmt]:
    """The block up to its first return, raise, break or continue; without `pass` beside other statements."""
    for i, each in enumerate(block):
        if isinstance(each, (ast.Return, ast.Raise, ast.Break, ast.Continue)):
            block = block[: i + 1]
            break
    return [each for each in block if not isinstance(each, ast.Pass)] if len(block) > 1 else block


def _drop_unread(function: ast.FunctionDef) -> None:
    """Removes assignments to plain names that nothing in the function reads, and named expressions likewise."""
    while True:
        read = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        read |= {name for n in ast.walk(function) if isinstance(n, (ast.Nonlocal, ast.Global)) for name in n.names}
        dropper = _Unread(read)
        dropper.visit(function)
        if not dropper.dropped:
            return


class _Unread(ast.NodeTransformer):
    def __init__(self, read: Collection[str]) -> None:
        self.read, self.dropped = read, 0

    def _is_unread(self, target: ast.AST) -> bool:
        return isinstance(target, ast.Name) and target.id not in self.read

    def _unless(self, unread: bool, node: ast.AST) -> ast.AST | None:
        self.dropped += unread
        return None if unread else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return self._unless(all(map(self._is_unread, node.targets)), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        return self._unless(self._is_unread(node.target), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return self._unless(self._is_unread(node.target), node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        names = [each.target for each in ast.walk(node.value) if isinstance(each, ast.NamedExpr)]
        return self._unless(bool(names) and all(map(self._is_unread, names)), node)


def reachable(tree: ast.Module, roots: Collection[str]) -> ast.Module:
    """The module without top-level definitions and imports that nothing left refers to, and without unused
    attributes of classes that are no fields."""
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            kept = [each for each in node.body if not _is_unused_attribute(each, attributes)]
            node.body = kept or [ast.Pass()]
    bindings = [(defined_names(node), _references(node), node) for node in tree.body]
    needed, more = set[str](), set(roots)
    while more - needed:
        needed |= more
        more = {name for bound, references, _ in bindings if not bound or bound & needed for name in references}
    return ast.Module([node for bound, _, node in bindings if not bound or bound & needed], [])


def _is_unused_attribute(node: ast.stmt, attributes: Collection[str]) -> bool:
    return isinstance(node, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id not in attributes for target in node.targets
    )


def _references(node: ast.stmt) -> set[str]:
    """Names that a statement reads when it is executed; annotations are not."""
    if isinstance(node, ast.AnnAssign):
        return _references(ast.Expr(node.value)) if node.value else set()
    found, waiting = set(), list[ast.AST]([node])
    while waiting:
        each = waiting.pop()
        if isinstance(each, ast.Name):
            found.add(each.id)
        for name, value in ast.iter_fields(each):
            if name not in ("annotation", "returns"):
                waiting += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, ast.AST)]
    return found


def without_annotations(node: Any) -> Any:
    """The same without annotations; a field of a class keeps a 0 in their place, which dataclasses need."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.arg):
            inner.annotation = None
        elif isinstance(inner, ast.FunctionDef):
            inner.returns = None
        elif isinstance(inner, ast.AnnAssign):
            inner.annotation = ast.Constant(0)
    return node
