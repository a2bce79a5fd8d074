"""What a script would do, read off its syntax tree; nothing here runs it.

Owns one small function per question. Refuses to guess at what it cannot see: code that is built at run time is the
fence's business (`fence.unwrap_file`), whose result comes back here as one more layer.
"""

from __future__ import annotations

import ast
import base64
import lzma
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

NETWORK_MODULES = {"requests", "urllib", "http", "socket", "ftplib", "aiohttp", "httpx", "wget", "gdown", "boto3"}
DOWNLOADERS = {"hf_hub_download", "snapshot_download", "urlretrieve", "urlopen", "load_dataset"}
FETCHING = ("apt-get", "apt ", "pip ", "pip3 ", "curl", "wget", "git clone", "conda ", "uv pip")
MINIFIERS = {"python_minifier", "pyminify", "pyminifier"}
PROGRAMS = ("lrzip", "lrunzip", "zpaq", "xz", "zstd", "brotli", "7z", "paq8l", "cmix")
NODES = 400_000  # of a syntax tree; the largest public script has about 60,000


@dataclass(frozen=True)
class Place:
    """Something found in a script. `line` counts from 1, 0 for the whole."""

    script: str
    line: int
    what: str

    def __str__(self) -> str:
        where = f"{self.script} line {self.line}" if self.line else self.script
        return f"{where}: {self.what}"


@dataclass(frozen=True)
class Script:
    """One layer of a Python file: the file itself, or what it extracts and executes (`layer` > 0)."""

    name: str
    text: bytes
    layer: int = 0

    @cached_property
    def parsed(self) -> tuple[ast.Module | None, str]:
        """(syntax tree, '') or (None, why there is none)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tree = ast.parse(self.text)
            except SyntaxError as error:
                return None, f"{error.msg} (line {error.lineno})"
            except (ValueError, RecursionError, MemoryError) as error:
                return None, str(error) or type(error).__name__
        for count, _ in enumerate(ast.walk(tree)):
            if count > NODES:
                return None, f"more than {NODES:,} nodes"
        return tree, ""

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

    def place(self, node: ast.AST, what: str) -> Place:
        return Place(self.title, getattr(node, "lineno", 0), what)


def calls(scripts: Iterable[Script]) -> Iterator[tuple[Script, ast.Call, str]]:
    """(script, call, dotted name of what is called)."""
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, ast.Call):
                yield script, node, dotted(node.func)


def dotted(node: ast.AST) -> str:
    """`torch.load` of the expression torch.load; '' for what is no plain name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ".".join(reversed(parts))


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The expression that a call gives for a keyword."""
    return next((given.value for given in call.keywords if given.arg == name), None)


def is_stub(script: Script) -> bool:
    """Whether a file does little else than execute what it holds or opens."""
    tree = script.parsed[0]
    if tree is None or len(tree.body) > 12:
        return False
    return any(name in ("exec", "eval", "runpy.run_path", "exec_module") for *_, name in calls([script]))


def imports(scripts: Sequence[Script]) -> Iterator[tuple[str, Place, bool]]:
    """(top-level module, where, whether it stands in a `try`) of every absolute import."""
    for script in scripts:
        guarded = {id(inner) for node in script.nodes if isinstance(node, ast.Try) for inner in ast.walk(node)}
        for node in script.nodes:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            else:
                continue
            for name in names:
                yield name.partition(".")[0], script.place(node, f"import {name}"), id(node) in guarded


def libraries(source: str) -> set[str]:
    """Top-level modules that a source imports beyond the standard library."""
    return {module for module, _, _ in imports([Script("", source.encode())])} - sys.stdlib_module_names


def texts(scripts: Sequence[Script]) -> Iterator[tuple[str, Place]]:
    """Every short string constant that is not a docstring or a statement of its own."""
    for script in scripts:
        idle = {id(node.value) for node in script.nodes if isinstance(node, ast.Expr)}
        for node in script.nodes:
            if not isinstance(node, ast.Constant) or id(node) in idle:
                continue
            if isinstance(node.value, str) and len(node.value) <= 4096:
                yield node.value, script.place(node, repr(node.value[:60]))


def unsafe_loads(scripts: Sequence[Script]) -> Iterator[Place]:
    """Calls that can run code out of a file: unpickling, and torch.load that asks for it."""
    for script, call, name in calls(scripts):
        last = name.rpartition(".")[2]
        if name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "joblib.load"):
            yield script.place(call, f"{name} runs whatever the file says")
        elif last == "load" and (only := keyword(call, "weights_only")) is not None and _is_false(only):
            yield script.place(call, f"{name}(weights_only=False) runs whatever the file says")
        elif last == "load" and (pickled := keyword(call, "allow_pickle")) is not None and not _is_false(pickled):
            yield script.place(call, f"{name}(allow_pickle=True) runs whatever the file says")


def bare_torch_loads(scripts: Sequence[Script]) -> Iterator[Place]:
    """torch.load without `weights_only`: safe from torch 2.6 on, not before."""
    for script, call, name in calls(scripts):
        if name == "torch.load" and keyword(call, "weights_only") is None:
            yield script.place(call, "torch.load without weights_only=True")


def lenient_loads(scripts: Sequence[Script]) -> Iterator[Place]:
    """load_state_dict that accepts missing and unexpected keys."""
    for script, call, name in calls(scripts):
        if name.rpartition(".")[2] == "load_state_dict":
            strict = keyword(call, "strict") or (call.args[1] if len(call.args) > 1 else None)
            if strict is not None and _is_false(strict):
                yield script.place(call, "load_state_dict(strict=False) hides missing and unexpected tensors")


def _is_false(node: ast.expr) -> bool:
    """Also for the names by which minifiers bind constants: `_B` cannot be resolved and is no proof."""
    return isinstance(node, ast.Constant) and not node.value


def fetches(scripts: Sequence[Script]) -> Iterator[Place]:
    """Imports, calls and commands that reach for the network or install something."""
    for module, place, _ in imports(scripts):
        if module in NETWORK_MODULES:
            yield place
    for script, call, name in calls(scripts):
        if name.rpartition(".")[2] in DOWNLOADERS:
            yield script.place(call, f"{name}(...)")
    for text, place in commands(scripts):
        if any(f"{word} " in f"{text} " if not word.endswith(" ") else word in f"{text} " for word in FETCHING):
            yield place


def commands(scripts: Sequence[Script]) -> Iterator[tuple[str, Place]]:
    """(command line, where) of every program that a script starts or looks for, as far as it is literal."""
    starters = ("run", "Popen", "call", "check_call", "check_output", "system", "popen", "which", "execvp")
    for script, call, name in calls(scripts):
        if name.rpartition(".")[2] not in starters or not call.args or name.startswith("dist."):
            continue
        first = call.args[0]
        words = first.elts if isinstance(first, (ast.List, ast.Tuple)) else [first]
        literal = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        if literal:
            text = " ".join(literal)
            yield text, script.place(call, f"{name}({text[:60]!r})")


def outside_programs(scripts: Sequence[Script]) -> dict[str, Place]:
    """External compressors that a script starts, looks for or names as the head of a command."""
    found: dict[str, Place] = {}
    for text, place in commands(scripts):
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


def calibrations_on_evaluated(scripts: Sequence[Script]) -> Iterator[Place]:
    """Calls whose name speaks of calibration or Hessians and whose argument is the evaluated text."""
    for script, call, name in calls(scripts):
        words = name.rpartition(".")[2].lower()
        if "eval" in words or not any(word in words for word in ("calib", "hessian", "gptq", "awq", "fisher")):
            continue
        for given in [*call.args, *(item.value for item in call.keywords)]:
            inner = {dotted(node).lower() for node in ast.walk(given) if isinstance(node, (ast.Name, ast.Attribute))}
            if any(_is_evaluated(name) for name in inner):
                yield script.place(call, f"{name}(... {ast.unparse(given)[:40]} ...)")
                break


def _is_evaluated(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.startswith(("val_tokens", "val_data", "val_loader", "validation", "val_files", "val_pattern"))


def opened_names(scripts: Sequence[Script], present: Iterable[str]) -> frozenset[str]:
    """Files of the folder that a script names in a string or imports as a module."""
    spoken = {text.rpartition("/")[2] for text, _ in texts(scripts)}
    modules = {module for module, _, _ in imports(scripts)}
    found = set()
    for name in present:
        base = name.rpartition("/")[2]
        module = name.partition("/")[0].removesuffix(".py")
        if (name.endswith(".py") and module in modules) or (base in spoken and "." in base):
            found.add(name)
    return frozenset(found)


def wrapped_size(sources: Iterable[bytes]) -> int:
    """Bytes of a self-extracting file around these sources: LZMA in base 85 behind two lines, as the field does."""
    plain = b"\n".join(sources)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    packed = lzma.compress(plain, format=lzma.FORMAT_RAW, filters=filters)
    stub = (
        b"import lzma as L,base64 as B\n"
        b'exec(L.decompress(B.b85decode(""),format=L.FORMAT_RAW,filters=[{"id":L.FILTER_LZMA2}]))\n'
    )
    return len(stub) + len(base64.b85encode(packed))
