"""What a script imports, opens, loads and counts, read off its syntax tree; nothing here runs it.

Owns one small function per question. Refuses to guess at what it cannot see: code that is built at run time is the
business of `layers`, whose results come back here as further scripts.
"""

from __future__ import annotations

import ast
import base64
import functools
import lzma
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence

from .fetching import commands, looked_for
from .script import Place, Script, calls, keyword, references

MINIFIERS = {"python_minifier", "pyminify", "pyminifier"}
PROGRAMS = ("lrzip", "lrunzip", "zpaq", "xz", "zstd", "brotli", "7z", "paq8l", "cmix")
SCRIPTS_KEPT = 256
IMPORTERS = {"importlib.import_module", "__import__", "importlib.__import__", "runpy.run_module", "imp.load_module"}
READERS = ("loadtxt", "genfromtxt", "fromstring", "read_csv", "read_table", "reader", "DictReader")  # of tables
UNPICKLERS = {
    *(f"{module}.{name}" for module in ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib")
      for name in ("load", "loads", "Unpickler")),
    "pandas.read_pickle", "pandas.io.pickle.read_pickle", "shelve.open", "jsonpickle.decode", "yaml.unsafe_load",
    "yaml.unsafe_load_all", "yaml.full_load", "sklearn.externals", "hickle.load", "torch.jit.load",
    "torch.export.load", "torch.package.PackageImporter", "multiprocessing.reduction.ForkingPickler.loads",
    "ray.cloudpickle.loads", "ray.cloudpickle.load", "keras.models.load_model", "tensorflow.keras.models.load_model",
}  # fmt: skip


def imports(scripts: Sequence[Script]) -> Iterator[tuple[str, Place, bool]]:
    """(top-level module, where, whether it may fail) of every absolute import, by statement or by call."""
    for name, place, guarded in imported_modules(scripts):
        yield name.partition(".")[0], place, guarded


def imported_modules(scripts: Sequence[Script]) -> Iterator[tuple[str, Place, bool]]:
    """As `imports`, with the whole dotted name."""
    for script in scripts:
        yield from _imported(script)


@functools.lru_cache(maxsize=SCRIPTS_KEPT)  # several rules ask
def _imported(script: Script) -> tuple[tuple[str, Place, bool], ...]:
    found = []
    guarded = {id(inner) for node in script.nodes if _is_guard(script, node) for inner in ast.walk(node)}
    never = {id(inner) for node in script.nodes if isinstance(node, ast.If) for inner in _never_run(script, node)}
    for node in (node for node in script.nodes if id(node) not in never):
        names: Iterable[str] = ()
        said = "import {}"
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        elif isinstance(node, ast.Call) and node.args and script.name_of(node.func) in IMPORTERS:
            names, said = script.texts_of(node.args[0]), f"{script.name_of(node.func)}({{!r}})"
        for name in names:
            if all(part.isidentifier() for part in name.split(".")):
                found.append((name, script.place(node, said.format(name)), id(node) in guarded))
    return tuple(found)


def _is_guard(script: Script, node: ast.AST) -> bool:
    """Whether an import inside may fail: `try`, `with suppress(ImportError)`, `if find_spec("name")`."""
    tests: list[ast.expr] = []
    if isinstance(node, ast.With):
        tests = [item.context_expr for item in node.items]
    elif isinstance(node, ast.If):
        tests = [node.test]
    else:
        return isinstance(node, ast.Try)
    called = (inner for test in tests for inner in ast.walk(test) if isinstance(inner, ast.Call))
    names = {script.name_of(call.func).rpartition(".")[2] for call in called}
    return bool(names & {"suppress", "find_spec"})


def _never_run(script: Script, node: ast.If) -> Iterator[ast.AST]:
    """What stands under `if TYPE_CHECKING` or `if False`."""
    is_false = isinstance(node.test, ast.Constant) and not node.test.value
    if is_false or script.name_of(node.test).rpartition(".")[2] == "TYPE_CHECKING":
        for inner in node.body:
            yield from ast.walk(inner)


def unknown_imports(scripts: Sequence[Script]) -> Iterator[Place]:
    """Calls that import a module whose name is not written down."""
    for script, call, name in calls(scripts):
        known = script.texts_of(call.args[0]) if name in IMPORTERS and call.args else ("known",)
        if not any(all(part.isidentifier() for part in text.split(".")) for text in known):
            yield script.place(call, f"{name}(...) of a module that is not written down")


def libraries(source: str) -> set[str]:
    """Top-level modules that a source imports beyond the standard library."""
    return {module for module, _, _ in imports([Script("", source.encode())])} - sys.stdlib_module_names


def texts(scripts: Sequence[Script], without: Collection[int] = ()) -> Iterator[tuple[str, Place]]:
    """Every short string constant that is not a docstring or a statement of its own; `without`: ids of nodes."""
    for script in scripts:
        idle = {id(node.value) for node in script.nodes if isinstance(node, ast.Expr)}
        for node in script.nodes:
            if not isinstance(node, ast.Constant) or id(node) in idle or id(node) in without:
                continue
            if isinstance(node.value, str) and len(node.value) <= 4096:
                yield node.value, script.place(node, repr(node.value[:60]))


_UNPICKLERS = (
    "pickle.Unpickler",
    "dill.Unpickler",
    "cloudpickle.Unpickler",
    "_pickle.Unpickler",
    "pickle._Unpickler",
)


def unsafe_loads(scripts: Sequence[Script]) -> Iterator[Place]:
    """Calls that can run code out of a file: unpickling, and torch.load that asks for it."""
    for script, call, name in calls(scripts):
        if name in UNPICKLERS:
            yield script.place(call, f"{name} runs whatever the file says")
        elif name in ("yaml.load", "yaml.load_all") and not _is_safe_loader(script, call):
            yield script.place(call, f"{name} with a loader that makes any object")
        elif name == "torch.load" and (module := keyword(call, "pickle_module")) is not None:
            yield script.place(
                call, f"torch.load(pickle_module={ast.unparse(module)[:40]}) runs whatever the file says"
            )
        elif (pickled := _asks_for_pickle(script, call, name)) is not None and not _is_false(pickled):
            yield script.place(call, f"{name}(allow_pickle=True) runs whatever the file says")
        elif (only := _spread(script, call, "weights_only")) is not None and _is_false(only, script):
            yield script.place(call, f"{name}(weights_only=False) runs whatever the file says")
    for script in scripts:
        for node in script.nodes:
            for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
                if isinstance(key, ast.Constant) and key.value == "weights_only" and _is_false(value):
                    yield script.place(node, "weights_only: False among a call's keywords")
    yield from _own_unpicklers(scripts)
    for script, node, name in references(scripts):
        if name in ("pickle.load", "pickle.loads", "dill.load", "dill.loads") and id(node) not in script.called:
            yield script.place(node, f"{name} is handed on")


def _own_unpicklers(scripts: Sequence[Script]) -> Iterator[Place]:
    """Classes that unpickle and do not say which other classes may be made."""
    for script in scripts:
        for node in script.nodes:
            bases = node.bases if isinstance(node, ast.ClassDef) else []
            methods = {getattr(item, "name", "") for item in getattr(node, "body", [])} if bases else set()
            if "find_class" not in methods and any(script.name_of(each) in _UNPICKLERS for each in bases):
                yield script.place(node, "a class that unpickles and keeps no other class out")


def _is_safe_loader(script: Script, call: ast.Call) -> bool:
    """Whether YAML is read by a loader that makes plain values only."""
    loader = keyword(call, "Loader") or (call.args[1] if len(call.args) > 1 else None)
    name = "" if loader is None else script.name_of(loader)
    return "Safe" in name or "Base" in name


def _asks_for_pickle(script: Script, call: ast.Call, name: str) -> ast.expr | None:
    """What a reader of arrays is told about pickles, by keyword or as numpy.load's third argument."""
    given = _spread(script, call, "allow_pickle")
    third = call.args[2] if len(call.args) > 2 and name in ("numpy.load", "np.load") else None
    return None if name.rpartition(".")[2].startswith(("save", "write")) else given or third


def bare_torch_loads(scripts: Sequence[Script]) -> Iterator[Place]:
    """torch.load without `weights_only`: safe from torch 2.6 on, not before."""
    for script, call, name in calls(scripts):
        if name == "torch.load" and keyword(call, "weights_only") is None:
            yield script.place(call, "torch.load without weights_only=True")


def lenient_loads(scripts: Sequence[Script]) -> Iterator[Place]:
    """load_state_dict that accepts missing and unexpected keys."""
    for script, call, name in calls(scripts):
        is_bound = name.rpartition(".")[2] == "partial" and bool(call.args)
        called = call.args[0] if is_bound else call.func
        if "load_state_dict" in (getattr(called, "attr", ""), script.name_of(called).rpartition(".")[2]):
            strict = _spread(script, call, "strict") or next(iter(call.args[1 + is_bound :]), None)
            if strict is not None and _is_false(strict):
                yield script.place(call, "load_state_dict(strict=False) hides missing and unexpected tensors")


def _spread(script: Script, call: ast.Call, name: str) -> ast.expr | None:
    """As `keyword`, also of a dictionary that is spread into the call."""
    for given in call.keywords:
        values = script.values.get(given.value.id, ()) if isinstance(given.value, ast.Name) else (given.value,)
        for value in values if given.arg is None else ():
            if isinstance(value, ast.Call) and (found := keyword(value, name)) is not None:
                return found
            for key, item in zip(value.keys, value.values, strict=True) if isinstance(value, ast.Dict) else ():
                if isinstance(key, ast.Constant) and key.value == name:
                    return item
    return keyword(call, name)


def _is_false(node: ast.expr, script: Script | None = None) -> bool:
    """Whether an expression is false: a constant, a negation of one, or a name that `script` gives nothing else."""
    match node:
        case ast.Call(func=ast.Name(id="bool"), args=[ast.Constant(value=value)]):
            return not value
        case ast.UnaryOp(op=ast.Not(), operand=ast.Constant(value=value)):
            return bool(value)
        case ast.Name(id=name) | ast.Attribute(attr=name) if script is not None:
            given = script.values.get(name, [])
            return bool(given) and all(map(_is_false, given))
    return isinstance(node, ast.Constant) and not node.value


def outside_programs(scripts: Sequence[Script]) -> dict[str, Place]:
    """External compressors that a script starts, looks for or names as the head of a command."""
    found: dict[str, Place] = {}
    for text, place in (*commands(scripts), *looked_for(scripts)):
        head = text.split()[0].rpartition("/")[2] if text.split() else ""
        if head in PROGRAMS:
            found.setdefault(head, place)
    for script in scripts:
        for node in script.nodes:
            first = node.elts[0] if isinstance(node, ast.List) and node.elts else None
            if isinstance(first, ast.Constant) and first.value in PROGRAMS:
                found.setdefault(str(first.value), script.place(node, f"{first.value} as a program"))
    return found


def minifier_counts(scripts: Sequence[Script]) -> Iterator[Place]:
    """A minifier that the script itself runs: its own code size then depends on whether that is installed."""
    for module, place, _ in imports(scripts):
        if module in MINIFIERS:
            yield place
    for text, place in commands(scripts):
        if text.split()[0:1] and text.split()[0] in MINIFIERS:
            yield place


def opened_names(scripts: Sequence[Script], present: Iterable[str]) -> frozenset[str]:
    """Files of the folder that a script names in a string or imports as a module, by statement or by call."""
    written = frozenset[int]().union(*map(_only_written, scripts))
    spoken = {text.rpartition("/")[2] for text, _ in texts(scripts, without=written)}
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, (ast.BinOp, ast.JoinedStr)) and id(node) not in written:
                spoken |= {text.rpartition("/")[2] for text in script.texts_of(node)}
    spoken |= {word.rpartition("/")[2] for text, _ in commands(scripts) for word in text.split()}
    modules = {module for module, _, _ in imports(scripts)}
    modules |= {alias for script in scripts for alias in _relative(script)}
    if any(name in IMPORTERS for *_, name in references(scripts)):
        modules |= {text.partition(".")[0] for text, _ in texts(scripts)}  # an importer may be given any of them
    found = set()
    for name in present:
        base = name.rpartition("/")[2]
        module = name.partition("/")[0].removesuffix(".py")
        if (name.endswith(".py") and module in modules) or (base in spoken and "." in base):
            found.add(name)
    return frozenset(found)


def _only_written(script: Script) -> frozenset[int]:
    """Ids of the nodes that name files which are written and nothing else, directly or by a variable."""
    targets = [each for node in script.nodes if isinstance(node, ast.Call) for each in _written_by(node)]
    found = {id(inner) for target in targets for inner in ast.walk(target)}
    if not found:
        return frozenset()
    uses: dict[str, list[ast.AST]] = {}
    for node in script.nodes:
        for word in {getattr(node, "id", ""), getattr(node, "attr", "")} - {""}:
            uses.setdefault(word, []).append(node)
    for node in script.nodes:
        name = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if isinstance(node, ast.Assign) and isinstance(name, ast.Name):
            others = [use for use in uses[name.id] if use is not name]
            if others and all(id(use) in found for use in others):
                found |= {id(inner) for inner in ast.walk(node.value)}
    return frozenset(found)


def _written_by(call: ast.Call) -> Iterator[ast.expr]:
    """What names the file that a call writes to."""
    last = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    is_method = last == "open" and owner is not None and getattr(owner, "id", "") not in ("gzip", "lzma", "bz2", "io")
    mode = keyword(call, "mode") or next(iter(call.args[0 if is_method else 1 :]), None)
    if last == "open" and isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "a", "x"):
        yield from [owner] if is_method and owner is not None else call.args[:1]
    elif last in ("to_csv", "to_json", "savetxt", "FileHandler", "savefig"):
        yield from call.args[:1]
    elif last in ("write_text", "write_bytes") and owner is not None:
        yield owner


def reads_tables(scripts: Sequence[Script], ending: str) -> bool:
    """Whether the code reads numbers out of files that end like this, whatever their name."""
    if ending in (".json", ".jsonl"):
        return any("json" in name and name.endswith(("load", "loads", "read_json")) for *_, name in calls(scripts))
    return any(map(_reads_numbers, calls(scripts))) or any(
        isinstance(node, (ast.ListComp, ast.GeneratorExp)) and _converts_words(node)
        for script in scripts
        for node in script.nodes
    )


def _reads_numbers(found: tuple[Script, ast.Call, str]) -> bool:
    _, call, name = found
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    is_map = last == "map" and name == "map" and len(call.args) > 1
    return last in READERS or (
        is_map and ast.unparse(call.args[0]) in ("int", "float") and "split(" in ast.unparse(call)
    )


def _converts_words(node: ast.ListComp | ast.GeneratorExp) -> bool:
    """[float(word) for line in file for word in line.split()]"""
    made = {getattr(inner.func, "id", "") for inner in ast.walk(node.elt) if isinstance(inner, ast.Call)}
    return bool(made & {"int", "float"}) and "split(" in ast.unparse(node)


def _relative(script: Script) -> Iterator[str]:
    for node in script.nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]


def wrapped_size(sources: Iterable[bytes]) -> int:
    """Bytes of a self-extracting file around these sources: LZMA in base 85 behind two lines, as the field does."""
    plain = b"\n".join(sources)
    level = 9 | lzma.PRESET_EXTREME if len(plain) < 1 << 20 else 1
    window = max(
        1 << 16, 1 << max(0, len(plain) - 1).bit_length()
    )  # all of it: the preset's 64 MiB give the same bytes
    filters = [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": window}]
    packed = lzma.compress(plain, format=lzma.FORMAT_RAW, filters=filters)
    stub = (
        b"import lzma as L,base64 as B\n"
        b'exec(L.decompress(B.b85decode(""),format=L.FORMAT_RAW,filters=[{"id":L.FILTER_LZMA2}]))\n'
    )
    return len(stub) + len(base64.b85encode(packed))
