"""Who may import whom, read from every import of the product: those inside functions and under TYPE_CHECKING too.

The ranks of the rooms are the table "The house" of README.md: page and code cannot disagree. A room is a folder
of pgpack, a module of its root, or one of pgtrain, cli and experiments.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("pgpack", "pgtrain", "cli", "experiments")
ROW = re.compile(r"^\| *(\d+) \| `([\w/.]+)` \| (.+) \|$", re.M)
MAY_IMPORT = {
    "pgpack": {"pgpack"},
    "pgtrain": {"pgpack", "pgtrain"},
    "cli": {"pgpack", "pgtrain", "cli"},
    "experiments": {"pgpack", "pgtrain", "experiments"},
}
NEVER = {  # room -> what none of its files may import, however far below it lies
    "pgpack/quantizers": ("pgpack.codecs", "torch"),
    "pgpack/codecs": ("pgpack.quantizers", "torch", "scipy"),
    "pgpack/formats": ("pgpack.quantizers", "torch", "scipy", "pickle"),
}
# What may be imported inside a function: what takes long to load, what only some machines have, what is optional; and
# our own modules that load something of SLOW themselves.
LATE = {
    "torch",
    "numba",
    "matplotlib",
    "scipy",
    "brotli",
    "zstandard",
    "sentencepiece",
    "tokenizers",
    "safetensors",
    "tqdm",
    "jinja2",
    "optuna",
    "distributed",
    "pyarrow",
    "transformers",
    "gguf",
    "python_minifier",
    "fcntl",
    "resource",
    "ctypes",
    "csv",
    "decimal",
    "tempfile",
    "unicodedata",
    "pydoc_data",
    "nncodec",
}
SLOW = {"torch", "numba", "distributed", "sentencepiece", "optuna", "jinja2"}
# Where it may stand: the tables of commands, stages, models and public names, and the commands with their flags,
# whose `--help` loads nothing that their work needs.
TABLES = (
    "cli/lazy.py",
    "cli/options/",
    "cli/verbs/",
    "cli/train_verbs/",
    "pgpack/stages.py",
    "pgpack/__init__.py",
)
# What training needs of the packer: it never packs, plans, sweeps or judges. Calibration and what refine foresees are
# for weights that are trained for the packer.
PGTRAIN_MAY_USE = {
    "pgpack/calibration",
    "pgpack/refine",
    "pgpack/checkpoint",
    "pgpack/errors.py",
    "pgpack/files.py",
    "pgpack/loss",
    "pgpack/models",
    "pgpack/text",
}
MAX_LINES, MAX_MEDIAN, MAX_ROOT_MODULES, MAX_FLOORS = 400, 124, 16, 14


@dataclass(frozen=True)
class Import:
    """`file` imports `name` from `module` (the module alone where `name` is ''), `late` when inside a function."""

    file: Path
    line: int
    module: str
    name: str
    late: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.module} {self.name}".rstrip()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> Mapping[str, Path]:
    """Dotted name -> file of every product module."""
    return {module_of(path): path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))}


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for path in modules().values() for found in _imports_of(path))


def _imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(node)
    }
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, _ours(alias.name), "", id(node) in late)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = _ours(".".join([*base, *([node.module] if node.module else [])]))
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                target, name = (whole, "") if whole in modules() else (module, alias.name)
                yield Import(path, node.lineno, target, name, id(node) in late)


def _ours(module: str) -> str:
    """`cli` is installed as pgpack_cli."""
    return re.sub(r"^pgpack_cli\b", "cli", module)


def room_of(module: str) -> str:
    """The room as README names it: pgpack/codecs, pgpack/pack.py, pgtrain, cli, experiments."""
    top, *below = modules()[module].relative_to(ROOT).parts
    return top if top != "pgpack" else f"{top}/{below[0]}"


def folder_of(module: str) -> str:
    """The innermost folder; a module in the root of a package stands for itself."""
    folder = modules()[module].parent.relative_to(ROOT).as_posix()
    return module if folder in TOPS else folder


@cache
def heavy() -> frozenset[str]:
    """Modules of ours that load something slow or optional when they are imported."""
    return frozenset(
        module_of(found.file)
        for found in imports()
        if not found.late and not _for_types(found) and found.module.split(".")[0] in SLOW
    )


def _for_types(found: Import) -> bool:
    """Whether an import stands under `if TYPE_CHECKING:`, where lines are indented and nothing runs."""
    return found.file.read_text(encoding="utf-8").splitlines()[found.line - 1].startswith(" ")


def ranks() -> dict[str, int]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return {room.rstrip("/"): int(rank) for rank, room, _ in ROW.findall(readme)}


def arrows(place: Mapping[str, str]) -> dict[str, set[str]]:
    """place -> the other places that its modules import."""
    graph: dict[str, set[str]] = {name: set() for name in place.values()}
    for found in imports():
        if found.module in modules():
            here, there = place[module_of(found.file)], place[found.module]
            if here != there:
                graph[here].add(there)
    return graph


def test_every_room_is_in_the_readme_and_no_other() -> None:
    assert set(ranks()) == {room_of(module) for module in modules()}


def test_an_import_goes_to_a_room_of_lower_rank() -> None:
    rank = ranks()
    wrong = [
        str(found)
        for found in imports()
        if found.module in modules()
        and room_of(found.module) != room_of(module_of(found.file))
        and rank[room_of(found.module)] >= rank[room_of(module_of(found.file))]
    ]
    assert not wrong


@pytest.mark.parametrize("kind", ["file", "folder", "room"])
def test_nothing_imports_itself_in_a_circle(kind: str) -> None:
    places = {"file": lambda module: module, "folder": folder_of, "room": room_of}
    graph = arrows({module: places[kind](module) for module in modules()})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_house_has_few_floors() -> None:
    graph = arrows({module: room_of(module) for module in modules()})

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(below) for below in graph[room]), default=0)

    assert max(map(floor, graph)) <= MAX_FLOORS


@pytest.mark.parametrize("top", TOPS)
def test_no_package_imports_upwards(top: str) -> None:
    wrong = [
        str(found)
        for found in imports()
        if found.file.relative_to(ROOT).parts[0] == top
        and (root := found.module.split(".")[0]) in (*TOPS, "tests")
        and root not in MAY_IMPORT[top]
    ]
    assert not wrong


def test_training_uses_checkpoints_text_and_losses_of_the_packer_and_nothing_else() -> None:
    used = {
        room_of(found.module)
        for found in imports()
        if found.file.is_relative_to(ROOT / "pgtrain") and found.module in modules()
    }
    assert used - {"pgtrain"} <= PGTRAIN_MAY_USE


@pytest.mark.parametrize("room", NEVER)
def test_a_room_never_imports_what_is_not_its_business(room: str) -> None:
    wrong = [
        str(found)
        for found in imports()
        if found.file.is_relative_to(ROOT / room)
        and any(f"{found.module}.".startswith(f"{never}.") for never in NEVER[room])
    ]
    assert not wrong


def test_nobody_imports_a_private_name() -> None:
    wrong = [
        str(found)
        for found in imports()
        if found.module in modules() and found.name.startswith("_") and not found.name.startswith("__")
    ]
    assert not wrong


def test_imports_inside_functions_are_in_tables_or_of_what_is_heavy() -> None:
    wrong = [
        str(found)
        for found in imports()
        if found.late
        and found.module.split(".")[0] not in LATE
        and found.module not in heavy()
        and not found.file.relative_to(ROOT).as_posix().startswith(TABLES)
    ]
    assert not wrong


def test_modules_are_small() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values()}
    assert not {str(path): n for path, n in lengths.items() if n > MAX_LINES}
    assert statistics.median(lengths.values()) <= MAX_MEDIAN
    assert len([path for path in lengths if path.parent == ROOT / "pgpack"]) <= MAX_ROOT_MODULES


@pytest.mark.parametrize(
    "module",
    [
        "pgpack",
        "pgpack.unpack",
        "pgpack.pack",
        "pgpack.formats.sniff",
        "pgpack.recipe.text",
        "pgpack.study.study",
        "pgpack_cli.lazy",
    ],
)
def test_importing_the_engine_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
