"""Who may import whom: experiments | cli -> pgtrain -> pgpack, and quantizers and codecs do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "pgpack": ("pgtrain", "pgpack_cli", "cli", "experiments", "tests"),
    "pgtrain": ("pgpack_cli", "cli", "experiments", "tests"),
    "cli": ("experiments", "tests"),
    "pgpack/quantizers": ("pgpack.codecs", "torch"),
    "pgpack/codecs": ("pgpack.quantizers", "torch", "scipy"),
    "pgpack/interop": ("pgpack.quantizers", "torch", "scipy", "pickle"),
}
PGTRAIN_MAY_USE = {"pgpack", "pgpack.errors", "pgpack.evaluate"}


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything that a file imports, anywhere in it."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names if not node.module}
    return found


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_imports_upwards(room: str) -> None:
    assert sources(room)
    for path in sources(room):
        for module in imported_modules(path):
            for forbidden in FORBIDDEN[room]:
                assert not f"{module}.".startswith(f"{forbidden}."), f"{path}: {module}"


def test_pgtrain_uses_only_errors_and_the_evaluator_protocol_of_pgpack() -> None:
    for path in sources("pgtrain"):
        used = {module for module in imported_modules(path) if module.split(".")[0] == "pgpack"}
        assert used <= PGTRAIN_MAY_USE, path


@pytest.mark.parametrize(
    "module",
    ["pgpack", "pgpack.unpack", "pgpack.pack", "pgpack.interop.sniff", "pgpack.recipe_text", "pgpack_cli.lazy"],
)
def test_importing_the_engine_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
