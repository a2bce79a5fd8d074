"""Modules of this package -> one syntax tree with exactly the definitions that some names need.

    root names --references, module by module--> definitions --unique names--> ast.Module

Annotations are kept as text and never followed; relative imports disappear, absolute ones are collected at the top.
Refuses what it cannot join: `from . import module`, `import *`, definitions behind conditions.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pgpack.errors import SubmissionError

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
Key = tuple[str, str]  # module, name
Tree = TypeVar("Tree", bound=ast.AST)
PACKAGE = __package__.partition(".")[0]


@dataclass(frozen=True)
class Override:
    """A definition that takes another one's place. `uses`: names in its source -> what they mean."""

    source: str
    uses: Mapping[str, Key] = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """A parsed module: `definitions` and `imported` by the name they bind, `external` imports as statements."""

    name: str
    tree: ast.Module

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        found: dict[str, Definition] = {}
        for node in self.tree.body:
            if isinstance(node, Definition):
                found |= dict.fromkeys(defined_names(node), node)
        return found

    @cached_property
    def imported(self) -> dict[str, Key]:
        return {name: key for node in self.tree.body for name, key in own_names(node, self.name)}

    @cached_property
    def external(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                found |= {alias.asname or alias.name: f"import {_alias(alias)}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not is_own(node):
                found |= {a.asname or a.name: f"from {node.module} import {_alias(a)}" for a in node.names}
        return found


def copied(tree: Tree) -> Tree:
    """A copy. Contexts and operators are shared: Python has one of each, and the minifier hangs trees on them."""
    shared = (node for node in ast.walk(tree) if not node._fields)
    return copy.deepcopy(tree, {id(node): node for node in shared})


def bound_names(node: ast.AST) -> set[str]:
    """Every name that a statement binds, in itself or in anything below it."""
    found: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if inner is not node:
                found.add(name)
            case ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.Import() | ast.ImportFrom() if not is_own(inner):
                found |= {(alias.asname or alias.name).partition(".")[0] for alias in inner.names}
    return found


def defined_names(node: ast.stmt) -> set[str]:
    """Names that a top-level statement binds; none for statements that are run for what they do."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return set()


def is_own(node: ast.AST) -> bool:
    """Whether it imports names of this package, which are joined rather than imported."""
    return isinstance(node, ast.ImportFrom) and (node.level > 0 or (node.module or "").split(".")[0] == PACKAGE)


def own_names(node: ast.AST, module: str) -> Iterator[tuple[str, Key]]:
    """(bound name, what it means) of an import of this package's in `module`."""
    if not isinstance(node, ast.ImportFrom) or not is_own(node):
        return
    spec = importlib.util.find_spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    package = module if is_package else module.rpartition(".")[0]
    base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    for alias in node.names:
        yield alias.asname or alias.name, (base, alias.name)


def _alias(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


class _Linker(ast.NodeTransformer):
    """Gives every global reference of one definition its name in the joined file."""

    def __init__(self, joint: _Joint, module: Module, uses: Mapping[str, Key]) -> None:
        self.joint, self.module, self.uses = joint, module, uses
        self.scopes: list[set[str]] = []
        self.local_imports: list[dict[str, Key]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        node.args.defaults = [self.visit(each) for each in node.args.defaults]
        node.args.kw_defaults = [each and self.visit(each) for each in node.args.kw_defaults]
        self.scopes.append(bound_names(node))
        inner = [pair for each in ast.walk(node) for pair in own_names(each, self.module.name)]
        self.local_imports.append(dict(inner))
        node.body = [new for each in node.body if (new := self.visit(each)) is not None] or [ast.Pass()]
        self.scopes.pop()
        self.local_imports.pop()
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if is_own(node) else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if isinstance(node.annotation, ast.Subscript) and ast.unparse(node.annotation.value) == "ClassVar":
            return ast.Assign([node.target], self.visit(node.value), lineno=0) if node.value else None
        node.value = node.value and self.visit(node.value)
        if not self.scopes and isinstance(node.target, ast.Name):
            node.target = self.visit(node.target)
        return node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        if any(node.id in scope for scope in self.scopes):
            return node
        for imports in reversed(self.local_imports):
            if node.id in imports:
                return ast.Name(self.joint.need(imports[node.id]), node.ctx)
        return ast.Name(self.joint.resolve(self.module, node.id, self.uses), node.ctx)


@dataclass
class _Joint:
    """The file in the making: what is needed, under which name, in which modules."""

    overrides: Mapping[Key, Override]
    modules: dict[str, Module] = field(default_factory=dict)
    names: dict[Key, str] = field(default_factory=dict)
    waiting: list[Key] = field(default_factory=list)
    externals: set[str] = field(default_factory=set)

    def module(self, name: str) -> Module:
        """A module's source, parsed once; it is not imported."""
        if name not in self.modules:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                raise SubmissionError(f"the decoder is made from the source of {name}, which is not there")
            self.modules[name] = Module(name, ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
        return self.modules[name]

    def need(self, key: Key) -> str:
        """The name under which a definition will stand in the file."""
        module = self.module(key[0])
        while key not in self.overrides and key[1] not in module.definitions:
            if key[1] not in module.imported:
                raise SubmissionError(f"the decoder needs {key[1]} of {key[0]}, which does not define it")
            key = module.imported[key[1]]
            module = self.module(key[0])
        if key not in self.names:
            taken = set(self.names.values())
            name = key[1]
            while name in taken:
                name = f"{key[0].rpartition('.')[2]}_{name.strip('_')}" if name == key[1] else f"{name}_"
            self.names[key] = name
            self.waiting.append(key)
        return self.names[key]

    def resolve(self, module: Module, name: str, uses: Mapping[str, Key]) -> str:
        if name in uses:
            return self.need(uses[name])
        if name in module.definitions or name in module.imported or (module.name, name) in self.overrides:
            return self.need((module.name, name))
        if name in module.external:
            self.externals.add(module.external[name])
        return name

    def linked(self, key: Key) -> ast.stmt:
        """The definition of `key` with every reference resolved."""
        module, override = self.module(key[0]), self.overrides.get(key)
        node = ast.parse(override.source).body[0] if override else copied(module.definitions[key[1]])
        linker = _Linker(self, module, override.uses if override else {})
        if isinstance(node, ast.ClassDef):
            node.decorator_list = [linker.visit(each) for each in node.decorator_list]
            node.bases = [linker.visit(each) for each in node.bases]
            attributes = [each for each in node.body if not isinstance(each, ast.FunctionDef)]
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            linker.scopes.append({name for each in attributes for name in bound_names(each)})
            body = [new for each in attributes if (new := linker.visit(each))]
            linker.scopes.pop()
            node.body = [*body, *map(linker.visit, methods)] or [ast.Pass()]
        else:
            node = linker.visit(node)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            node.name = self.names[key]
        return node


def assemble(roots: Sequence[Key], overrides: Mapping[Key, Override]) -> tuple[ast.Module, dict[str, str]]:
    """(one module with everything that `roots` need, name of each definition in it -> module that it came from).

    Raises SubmissionError where the sources cannot be joined.
    """
    joint = _Joint(overrides)
    for key in roots:
        joint.need(key)
    made: dict[Key, ast.stmt] = {}
    while joint.waiting:
        key = joint.waiting.pop()
        made[key] = joint.linked(key)
    body: list[ast.stmt] = [ast.parse(line).body[0] for line in sorted(joint.externals)]
    origin: dict[str, str] = {}
    for module in _in_order([key[0] for key in roots], joint):
        nodes: dict[str, ast.stmt] = {}
        for key, node in made.items():
            if key[0] == module.name:
                nodes.setdefault(ast.dump(node), node)
                origin[joint.names[key]] = module.name
        body += sorted(nodes.values(), key=lambda node: _place(module, node, joint))
    return ast.fix_missing_locations(ast.Module(body, [])), origin


def _place(module: Module, node: ast.stmt, joint: _Joint) -> tuple[int, str]:
    """Where a definition stood in its module; an override where the original stood, tables of classes last."""
    own = {joint.names[key]: key[1] for key in joint.names if key[0] == module.name}
    name = min(defined_names(node))
    original = module.definitions.get(own.get(name, name))
    return (original.lineno if original is not None else 0), name


def _in_order(roots: Sequence[str], joint: _Joint) -> list[Module]:
    """The modules that take part, each after those that it imports."""
    found: dict[str, Module] = {}
    taking_part = {key[0] for key in joint.names}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in found or name in above:
            return
        module = joint.module(name)
        below = [key[0] for key in module.imported.values()]
        below += [
            use[0] for key, override in joint.overrides.items() if key[0] == name for use in override.uses.values()
        ]
        for other in below:
            if other in taking_part:
                visit(other, (*above, name))
        found[name] = module

    for root in roots:
        visit(root, ())
    for name in sorted(taking_part):
        visit(name, ())
    return [module for name, module in found.items() if name in taking_part]
