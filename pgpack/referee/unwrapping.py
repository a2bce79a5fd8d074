"""Part of the fenced process (`fence` loads it by its path): runs a file up to the code that it starts, and keeps it.

    file --exec, eval, compile, runpy, an interpreter, a file written and imported--> layers, read and not run

A layer is run in its place only where it starts further code itself. What is not of the standard library, of a byte
codec or of the file's own making is a stand-in (`standins`), so that nothing heavy is loaded and nothing is computed.
Standard library only.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import io
import os
import runpy
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

RUNNING = ("codeop", "code", "timeit", "cProfile", "profile", "trace", "doctest", "bdb")  # run what they are given
NAMES = {"exec", "eval", "compile", "__import__", "execfile"}
MODULES = {"runpy", "marshal", "zipimport", "imp", "importlib", "subprocess"}
ATTRIBUTES = {
    "run_path",
    "run_module",
    "ModuleType",
    "spec_from_file_location",
    "SourceFileLoader",
    "execv",
    "execve",
}
MOST_LAYERS, LAYER_BYTES = 200, 8 << 20


class Stop(BaseException):
    """Time is up."""


def sibling(name: str) -> Any:
    """A module of ours that lies beside this file, loaded by its path: nothing of pgpack can be imported here."""
    spec = importlib.util.spec_from_file_location(f"pgpack_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


standins = sibling("standins")


class Unwrapper:
    """What a file starts. `layers`: sources in their order; `reached`: [layer or -1 for the file, line] of each place
    that started something; `outside`: files above the folder; `made`: modules of its own; `blind`: compiled code;
    `started`: command lines."""

    def __init__(self, path: str, root: str, scratch: str) -> None:
        self.path, self.root, self.scratch = os.path.realpath(path), root, scratch
        self.layers: list[bytes] = []
        self.reached: list[tuple[int, int]] = []
        self.outside: list[str] = []
        self.made: list[str] = []
        self.blind: list[str] = []
        self.started: list[str] = []
        self.opened: list[str] = []
        self.library: set[CodeType] = set()
        self.exec: Callable[..., Any] = exec
        self.compile: Callable[..., Any] = compile
        self.open: Callable[..., Any] = io.open
        self.there = {os.path.join(folder, file) for folder, _, files in os.walk(root) for file in files}

    def run(self, namespace: dict[str, Any], seconds: float) -> None:
        """Runs the file with everything in place. Raises whatever the file raises, and Stop."""
        code = self.compile(self.open(self.path, "rb").read(), self.path, "exec", dont_inherit=True)
        modules = {*sys.modules}
        warnings.simplefilter("ignore")
        sys.meta_path.insert(0, standins.Pretender(self.root, self.scratch))
        builtins.exec = builtins.eval = self._exec
        builtins.compile = self._compile
        builtins.open = io.open = self._open
        runpy.run_path, runpy.run_module = self._run_path, self._run_module
        for name in ("mkdir", "makedirs"):
            setattr(os, name, self._mapped(getattr(os, name)))
        time.sleep = standins.Fake()
        signal.signal(signal.SIGPROF, self._stop)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            self.exec(code, namespace)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            builtins.exec, builtins.eval = self.exec, self.exec
            self._written()
            self._modules(modules)

    @staticmethod
    def _stop(*_: Any) -> None:
        raise Stop

    def _is_foreign(self, file: str) -> bool:
        return file.startswith((self.root + os.sep, self.scratch + os.sep, "<layer "))

    def _note_place(self, frame: FrameType | None) -> None:
        """The line of the file or of a layer that is the reason for what happens."""
        while frame is not None and not self._is_foreign(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is not None:
            file = frame.f_code.co_filename
            layer = int(file[7:-1]) if file.startswith("<layer ") else -1
            if (layer, frame.f_lineno) not in self.reached and len(self.reached) < MOST_LAYERS:
                self.reached.append((layer, frame.f_lineno))

    def _layer(self, source: Any) -> int:
        text = source.encode("utf-8", "replace") if isinstance(source, str) else bytes(source)
        if text not in self.layers and len(self.layers) < MOST_LAYERS and len(text) <= LAYER_BYTES:
            self.layers.append(text)
        return self.layers.index(text) if text in self.layers else -1

    def _exec(self, source: Any, *given: Any, **named: Any) -> Any:
        frame = sys._getframe(1)
        scope = given or ((frame.f_globals, frame.f_locals) if "globals" not in named else ())
        if isinstance(source, CodeType):
            return self._exec_compiled(source, frame, scope, named)
        if not self._is_foreign(frame.f_code.co_filename) and not self._runs_the_given(frame):
            return self._really(source, scope, named)
        if isinstance(source, standins.Fake):
            return None  # what it would be nobody knows here
        self._note_place(frame)
        index = self._layer(source)
        if index < 0 or not starts(self.layers[index]):
            return None
        mode = "eval" if _is_expression(self.layers[index]) else "exec"
        code = self.compile(self.layers[index].lstrip(), f"<layer {index}>", mode, dont_inherit=True)
        return self._really(code, scope, named)

    def _exec_compiled(self, code: CodeType, frame: FrameType, scope: Any, named: dict[str, Any]) -> Any:
        file = code.co_filename
        if code in self.library or (not self._is_foreign(file) and os.path.isfile(file)):
            return self._really(code, scope, named)
        self._note_place(frame)
        if file.startswith("<layer "):
            return self._really(code, scope, named) if starts(self.layers[int(file[7:-1])]) else None
        if not os.path.isfile(file):
            self.blind.append(f"compiled code of {file}"[:80])
            return None
        self._layer(self.open(file, "rb").read(LAYER_BYTES))
        return self._really(code, scope, named)

    def _really(self, code: Any, scope: Sequence[Any], named: dict[str, Any]) -> Any:
        run = _EVAL if not isinstance(code, CodeType) or not named else self.exec
        return run(code, *scope, **named)

    @staticmethod
    def _runs_the_given(frame: FrameType) -> bool:
        return frame.f_globals.get("__name__") in RUNNING

    def _compile(self, source: Any, filename: Any = "<string>", mode: str = "exec", *given: Any, **named: Any) -> Any:
        frame = sys._getframe(1)
        named.setdefault("dont_inherit", True)
        if len(given) > 1:
            named.pop("dont_inherit")
        flags = given[0] if given else named.get("flags", 0)
        caller = frame.f_code.co_filename
        if flags & ast.PyCF_ONLY_AST:
            return self.compile(source, filename, mode, *given, **named)
        if not self._is_foreign(caller) and not self._runs_the_given(frame):
            code = self.compile(source, filename, mode, *given, **named)
            if self._is_foreign(os.path.realpath(os.fsdecode(filename))):
                self._note_place(frame)
                if os.path.realpath(os.fsdecode(filename)) not in self.there:
                    self._layer(source)
            self.library.add(code)
            return code
        if isinstance(source, standins.Fake):
            return self.compile("", filename, mode, *given, **named)
        self._note_place(frame)
        index = self._layer(ast.unparse(source) if isinstance(source, ast.AST) else source)
        return self.compile(source, f"<layer {index}>", mode, *given, **named)

    def _place(self, path: Any) -> Any:
        """Where a path really lies: an absolute one outside of everything is kept in the scratch folder."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return path
        real = os.path.realpath(os.fsdecode(path))
        if self._is_foreign(real) or real in (self.root, self.scratch) or os.path.isfile(real):
            return path
        return os.path.join(self.scratch, "elsewhere", real.lstrip("/"))

    def _mapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def mapped(path: Any, *given: Any, **named: Any) -> Any:
            place = self._place(path)
            if place is not path:
                named["exist_ok"] = True
                return _MAKEDIRS(place, **{k: v for k, v in named.items() if k == "exist_ok"})
            return original(path, *given, **named)

        return mapped

    def _open(self, file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
        place = self._place(file)
        if place is not file and set(mode) & set("wax+"):
            _MAKEDIRS(os.path.dirname(place), exist_ok=True)
        elif place is not file and not os.path.exists(place):
            place = file
        return self.open(place, mode, *given, **named)

    def _run_path(self, path_name: Any, init_globals: Any = None, run_name: Any = None) -> dict[str, Any]:
        self._note_place(sys._getframe(1))
        return self._start_file(os.fsdecode(path_name), init_globals, run_name)

    def _start_file(self, name: str, init_globals: Any = None, run_name: Any = None) -> dict[str, Any]:
        path = os.path.realpath(name)
        if not os.path.exists(path) and os.path.exists(kept := os.path.realpath(self._place(name))):
            path = kept
        if os.path.isdir(path):
            path = os.path.join(path, "__main__.py")
        if not self._is_foreign(path):
            self.outside.append(os.path.relpath(path, self.root))
            return {}
        if not os.path.isfile(path):
            raise FileNotFoundError(path)
        text = self.open(path, "rb").read(LAYER_BYTES)
        if path in self.there:
            self.opened.append(os.path.relpath(path, self.root))
        else:
            self._layer(text)
        if path != self.path and starts(text):
            names = {"__name__": run_name or "<run_path>", "__file__": path, **(init_globals or {})}
            self.exec(self.compile(text, path, "exec", dont_inherit=True), names)
        return {}

    def _run_module(self, mod_name: str, *given: Any, **named: Any) -> dict[str, Any]:
        self._note_place(sys._getframe(1))
        return self._start_module(mod_name)

    def _start_module(self, name: str) -> dict[str, Any]:
        for folder in (*sys.path, self.root):
            stem = os.path.join(folder, *name.split("."))
            for path in (f"{stem}.py", os.path.join(stem, "__main__.py")):
                if os.path.isfile(path) and self._is_foreign(os.path.realpath(path)):
                    return self._start_file(path)
        return {}

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Audit events: programs that are started, and code files that are read from above the folder."""
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            real = os.path.realpath(os.fsdecode(arguments[0]))
            near = os.path.dirname(os.path.dirname(os.path.dirname(self.root)))
            if (
                real.endswith((".py", ".pyz", ".pyc"))
                and not self._is_foreign(real)
                and real.startswith(near + os.sep)
            ):
                self.outside.append(os.path.relpath(real, self.root))
        elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
            self._note_place(sys._getframe(2))
            self._command([os.fsdecode(arguments[0] or ""), *map(_text, list(arguments[1] or [])[1:])])
        elif event == "os.system":
            self._note_place(sys._getframe(2))
            self.started.append(_text(arguments[0])[:400])
            try:
                self._command(shlex.split(_text(arguments[0])))
            except ValueError:
                return

    def _command(self, words: list[str]) -> None:
        """A program and its arguments; of an interpreter, the code or the file that it is given."""
        self.started.append(" ".join(words)[:400])
        if len(words) > 2 and words[1] in ("-c", "-lc") and os.path.basename(words[0]) in ("sh", "bash"):
            words = shlex.split(words[2])
        if not words or not os.path.basename(words[0]).startswith(("python", "torchrun")):
            return
        for i, word in enumerate(words[1:], 1):
            if word == "-c" and i + 1 < len(words):
                self._layer(words[i + 1])
                return
            if word == "-m" and os.path.basename(words[0]).startswith("python"):
                if words[i + 1 : i + 2] != ["torch.distributed.run"]:
                    self._start_module("".join(words[i + 1 : i + 2]))
                    return
            elif word.endswith(".py"):
                self._start_file(word)
                return

    def _written(self) -> None:
        """Python files that were unpacked and are still there."""
        for top in (self.scratch, self.root):
            for folder, _, files in os.walk(top):
                for name in files:
                    path = os.path.join(folder, name)
                    if name.endswith(".py") and path not in self.there:
                        self._layer(self.open(path, "rb").read(LAYER_BYTES))
                        stem = os.path.basename(folder) if name == "__init__.py" else name.removesuffix(".py")
                        self.made.append(stem)

    def _modules(self, before: set[str]) -> None:
        for name, module in [*sys.modules.items()]:
            if (
                name not in before
                and not isinstance(module, standins.FakeModule)
                and name not in sys.stdlib_module_names
            ):
                file = getattr(module, "__file__", None)
                if file is None or self._is_foreign(os.path.realpath(str(file))):
                    self.made.append(name.partition(".")[0])

    def report(self) -> dict[str, Any]:
        found = {name: [*dict.fromkeys(getattr(self, name))][:MOST_LAYERS] for name in REPORTED}
        return {**found, "layers": [layer.decode("latin-1") for layer in self.layers]}


REPORTED = ("reached", "outside", "made", "blind", "started")
_EVAL = eval
_MAKEDIRS = os.makedirs


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else str(value)


def _is_expression(text: bytes) -> bool:
    try:
        ast.parse(text.lstrip(), mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True


def starts(text: bytes) -> bool:
    """Whether a source starts further code, or is an expression that computes and calls nothing."""
    try:
        tree = ast.parse(text.lstrip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = [*ast.walk(tree)]
    return any(map(_is_start, nodes)) or not any(isinstance(node, ast.Call) for node in nodes)


def _is_start(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name):
            return name in NAMES
        case ast.Attribute(value=value, attr=name):
            return name in ATTRIBUTES or (name in ("exec", "eval") and "builtins" in ast.unparse(value))
        case ast.Import(names=names):
            return any(alias.name.partition(".")[0] in MODULES for alias in names)
        case ast.ImportFrom(module=module):
            return (module or "").partition(".")[0] in MODULES
    return False
