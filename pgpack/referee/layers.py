"""Every layer of the Python files of a folder: the file, what its constants hold, what it starts when it runs.

    file --constants, unpacked--> sources --again--> ...
         --run behind the fence up to what it starts (`unwrapping`)--> sources, files outside, modules of its own

Owns what is undecided: a place that runs code which neither way has shown.
"""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import starting
from .folder import Folder, read_file
from .packed_code import sources
from .runs import Limits, Run, run_script
from .script import Place, Script

PYTHON_BYTES = 4 << 20
DEEP = "of/a/repository/with/records/track_10min_16mb"  # so that what is above the folder can be named
MOST = 200  # layers of one file


@dataclass(frozen=True)
class Program:
    """One file of code. `scripts`: its layers, the file first and the innermost last; `run`: how it was unwrapped,
    None where it starts nothing; `undecided`: what it runs and nobody could read; `outside`: files above the folder
    that it starts; `made`: modules that it makes itself."""

    name: str
    scripts: tuple[Script, ...]
    run: Run | None = None
    undecided: tuple[Place, ...] = ()
    outside: tuple[Place, ...] = ()
    made: frozenset[str] = frozenset()

    @property
    def running(self) -> bytes:
        """What runs in the end: the innermost layer of a file that does little else than start it."""
        first = self.scripts[0]
        return self.scripts[-1].text if starting.is_stub(first) else first.text


def programs(folder: Folder, stage: Path, modules: frozenset[str], limits: Limits) -> tuple[Program, ...]:
    """The program of every file that is Python, or is nothing but packed Python."""
    found = []
    for entry in folder.entries:
        if entry.n_bytes > PYTHON_BYTES or not (entry.name.endswith(".py") or entry.mark == "code"):
            continue
        data = read_file(folder.path / entry.name, PYTHON_BYTES)
        if entry.mark == "code" or data.startswith(b"PK\x03\x04"):
            texts = sources(data)
            layers = _mined([Script(entry.name, text, 1) for text in texts])
            found.append(Program(entry.name, tuple(layers))) if layers else None
            continue
        script = Script(entry.name, data)
        if any(True for _ in starting.runners(script)):
            found.append(_unwrapped(script, folder, stage, modules, limits))
        else:
            found.append(Program(entry.name, (script,), made=starting.made_modules(script)))
    return tuple(found)


def _unwrapped(script: Script, folder: Folder, stage: Path, modules: frozenset[str], limits: Limits) -> Program:
    place = Path(tempfile.mkdtemp(prefix="unwrap-", dir=stage.parent))
    root, scratch = place / DEEP / (folder.path.resolve().name or "folder"), place / "scratch"
    scratch.mkdir()
    _link_tree(stage, root)
    run = run_script(root / script.name, [], scratch, modules, limits, root=root, unwrap=True)
    shown = [Script(script.name, layer, 1) for layer in run.layers]
    mined = _mined([script, *shown])[1 + len(shown) :]
    known = {layer.text for layer in shown}
    scripts = (script, *(layer for layer in mined if layer.text not in known), *shown)
    outside = [place for layer in scripts for place in starting.outside(layer)]
    outside += [Place(script.name, _first_line(run), f"{name}, a file outside the folder") for name in run.outside]
    return Program(
        script.name,
        scripts,
        run,
        tuple(_undecided(script, scripts, run)),
        tuple(outside),
        frozenset(run.made).union(*map(starting.made_modules, scripts)),
    )


def _first_line(run: Run) -> int:
    return next((line for layer, line in run.reached if layer < 0), 0)


def _mined(scripts: list[Script]) -> list[Script]:
    """These and every source in a constant of one of them that starts code, as deep as it goes."""
    found, seen = [*scripts], {script.text for script in scripts}
    for script in found:  # grows while it is gone through
        if script.layer == 0 and not any(True for _ in starting.runners(script)):
            continue
        for text in starting.constants(script):
            if text not in seen and len(found) < MOST:
                seen.add(text)
                found.append(Script(script.name, text, 1))
    return found


def _undecided(file: Script, scripts: Iterable[Script], run: Run) -> Iterable[Place]:
    index = {layer: i for i, layer in enumerate(run.layers)}
    for script in scripts:
        number = -1 if script is file else index.get(script.text)
        lines = {line for layer, line in run.reached if layer == number}
        for call, name in starting.sites(script):
            reached = any(line in lines for line in range(call.lineno, (call.end_lineno or call.lineno) + 1))
            if not reached and not starting.is_written_down(script, call):
                yield script.place(call, f"{name}({_shown(call)}), which could not be read")
        for node, name in starting.compiled(script):
            yield script.place(node, f"{name}: compiled code, which could not be read")
    for what in run.blind:
        yield Place(file.name, _first_line(run), f"{what}, which could not be read")
    if run.error.startswith("did not end"):
        yield Place(file.name, 0, "it did not end in time while it was unwrapped")


def _shown(call: ast.Call) -> str:
    text = ast.unparse(call.args[0])
    return text if len(text) <= 60 else f"{text[:57]}..."


def _link_tree(source: Path, target: Path) -> None:
    """The staged files under another folder, without copying them: what was there can only be read there."""
    target.mkdir(parents=True)
    for folder, _, files in os.walk(source):
        below = target / Path(folder).relative_to(source)
        below.mkdir(exist_ok=True)
        for name in files:
            os.link(Path(folder, name), below / name)
