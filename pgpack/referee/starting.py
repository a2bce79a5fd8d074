"""Where a script starts other code: exec and its kin, modules made on the fly, files and interpreters started.

Owns the question whether a script does so, and which code it names for it; what that code is, `layers` finds out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .fetching import commands
from .packed_code import SHORTEST, in_constant
from .script import Place, Script, calls, references
from .texts import UNKNOWN

RUNNERS = {
    "exec", "eval", "compile", "execfile", "runpy.run_path", "runpy.run_module", "runpy._run_code",
    "code.InteractiveInterpreter", "code.InteractiveConsole", "code.compile_command", "codeop.compile_command",
    "importlib.util.spec_from_file_location", "importlib.util.module_from_spec", "importlib.util.spec_from_loader",
    "importlib.machinery.SourceFileLoader", "importlib.machinery.SourcelessFileLoader", "imp.load_source",
    "imp.new_module", "zipimport.zipimporter", "types.ModuleType", "types.FunctionType", "timeit.timeit",
    "cProfile.run",
    "importlib.abc.InspectLoader.source_to_code", "importlib.abc.Loader", "importlib.abc.MetaPathFinder",
    "importlib.abc.SourceLoader",
}  # fmt: skip
COMPILED = {"marshal.loads", "marshal.load", "types.CodeType", "importlib.machinery.SourcelessFileLoader"}
SITES = {
    "exec",
    "eval",
    "compile",
    "execfile",
    "runpy.run_path",
    "imp.load_source",
    "importlib.machinery.SourceFileLoader",
}
TEMPORARY = ("/tmp/", "/var/tmp/", "/dev/shm/")  # what lies there was put there
_PYTHON = re.compile(r"(?:^|[\s/;&|])(?:python[\d.]*|torchrun|pypy3?)\s")


def runners(script: Script) -> Iterator[Place]:
    """Every place where a script names something that runs code."""
    for _, node, name in references([script]):
        if (name in RUNNERS or name in COMPILED) and not _is_shadowed(script, name):
            yield script.place(node, name)
    for _, call, name in calls([script]):
        if (
            (name in SITES and not isinstance(call.func, (ast.Name, ast.Attribute)))
            or name in ("sys.path.insert", "sys.path.append", "sys.path_hooks.append", "sys.meta_path.append")
            or name in ("sys.meta_path.insert", "sys.path.extend")
        ):
            yield script.place(call, name)
    for text, place in commands([script]):
        if _PYTHON.search(f" {text} ") and not re.search(r"-m\s+pip\b", text):
            yield place


def _is_shadowed(script: Script, name: str) -> bool:
    return name in script.functions or name in script.imported


def sites(script: Script) -> Iterator[tuple[ast.Call, str]]:
    """(call, name) of what runs the code or file that it is given."""
    for _, call, name in calls([script]):
        if name in SITES and not _is_shadowed(script, name) and call.args:
            yield call, name


def compiled(script: Script) -> Iterator[tuple[ast.expr, str]]:
    """Where code without a source is taken from."""
    for _, node, name in references([script]):
        if name in COMPILED:
            yield node, name


def constants(script: Script) -> Iterator[bytes]:
    """The sources in a script's constants, packed or plain; docstrings are prose."""
    idle = {id(node.value) for node in script.nodes if isinstance(node, ast.Expr)}
    for node in script.nodes:
        if id(node) in idle or not isinstance(node, (ast.Constant, ast.BinOp, ast.Call)):
            continue
        if isinstance(node, ast.Constant):
            if isinstance(node.value, (str, bytes)) and len(node.value) >= SHORTEST:
                yield from in_constant(node.value)
        elif isinstance(node, ast.BinOp) or getattr(node.func, "attr", "") == "join":
            for text in script.texts_of(node):
                if len(text) >= SHORTEST and UNKNOWN not in text:
                    yield from in_constant(text)


def is_written_down(script: Script, call: ast.Call) -> bool:
    """Whether what a call runs is a text of the script itself, plain or packed."""
    expressions: list[ast.AST] = [call]
    for node in ast.walk(call):
        if isinstance(node, ast.Name):
            expressions += script.values.get(node.id, [])
    for expression in expressions:
        for node in ast.walk(expression):
            if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and in_constant(node.value):
                return True
    found = [*script.texts_of(call.args[0])]
    return bool(found) and not any(UNKNOWN in text for text in found)


def is_stub(script: Script) -> bool:
    """Whether a file does little else than execute what it holds or opens."""
    tree = script.parsed[0]
    return tree is not None and len(tree.body) <= 12 and any(True for _ in runners(script))


def made_modules(script: Script) -> frozenset[str]:
    """Modules that a script puts together itself, as far as their names are written down."""
    found: set[str] = set()
    finds = any(name == "find_spec" for name in script.functions)
    for node in script.nodes:
        if isinstance(node, ast.Call) and node.args:
            name = script.name_of(node.func)
            if (
                name
                in ("types.ModuleType", "imp.new_module", "sys.modules.setdefault", "importlib.util.spec_from_loader")
                or name == "importlib.util.spec_from_file_location"
            ):
                found |= {*script.texts_of(node.args[0])}
            elif name == "sys.modules.update" and isinstance(node.args[0], ast.Dict):
                found |= {text for key in node.args[0].keys if key for text in script.texts_of(key)}
        elif isinstance(node, ast.Subscript) and script.name_of(node.value) == "sys.modules":
            found |= {*script.texts_of(node.slice)}
        elif isinstance(node, ast.Dict) and finds:
            found |= {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return frozenset(name.partition(".")[0] for name in found if UNKNOWN not in name)


def makes_modules(script: Script) -> bool:
    """Whether a script names what modules are made of or found by."""
    makers = (
        "types.ModuleType",
        "imp.new_module",
        "sys.modules",
        "sys.meta_path",
        "sys.path_hooks",
        "sys.path.insert",
    )
    return any(name.startswith((*makers, "sys.path.append", "importlib.")) for *_, name in references([script]))


def outside(script: Script) -> Iterator[Place]:
    """Files started from above the folder, as far as the path is written down."""
    for call, name in sites(script):
        if name in ("runpy.run_path", "imp.load_source", "importlib.machinery.SourceFileLoader"):
            yield from _above(script, call, name)
        elif name in ("exec", "execfile"):
            for inner in ast.walk(call):
                if isinstance(inner, ast.Call) and script.name_of(inner.func).rpartition(".")[2] in (
                    "open", "read_text", "read_bytes",
                ):  # fmt: skip
                    yield from _above(script, inner, f"{name} of a file")
    for _, call, name in calls([script]):
        if name == "importlib.util.spec_from_file_location":
            yield from _above(script, call, name)
    for text, place in commands([script]):
        if _PYTHON.search(f" {text} ") and re.search(r"(?:^|[\s/])\.\./[^\s]*\.py\b", text):
            yield place


def _above(script: Script, call: ast.Call, name: str) -> Iterator[Place]:
    """The place of a call whose path leads above the folder."""
    expressions: list[ast.AST] = [call]
    for node in ast.walk(call):
        if isinstance(node, ast.Name):
            expressions += script.values.get(node.id, [])
    for expression in expressions:
        if any(map(_leads_above, ast.walk(expression))):
            shown = call.args[0] if expression is call and call.args else expression
            yield script.place(call, f"{name}({ast.unparse(shown)[:120]}), a file outside the folder")
            return
    named = call.args[-1:] if name.startswith("importlib") else call.args[:1]
    for text in (text for given in named for text in script.texts_of(given)):
        if text.startswith("/") and text.endswith(".py") and not text.startswith(TEMPORARY):
            yield script.place(call, f"{name}({text!r}), a file outside the folder")


def _leads_above(node: ast.AST) -> bool:
    match node:
        case ast.Subscript(value=ast.Attribute(attr="parents"), slice=ast.Constant(value=int(number))):
            return number > 0
        case ast.Constant(value=str(text)):
            return text == ".." or text.startswith("../") or "/../" in text
        case ast.Attribute(value=ast.Attribute(attr="parent"), attr="parent"):
            return True
        case ast.Call(func=ast.Attribute(attr="dirname"), args=[ast.Call(func=ast.Attribute(attr="dirname"))]):
            return True
    return False
