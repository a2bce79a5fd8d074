"""Help and dry runs answer at once: they load nothing that takes long. `make bench-start` measures the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pgpack_cli.pgpack_app import VERBS

from tests.synthetic_study import write_study

HEAVY = {"torch", "scipy", "numba", "matplotlib", "sentencepiece", "brotli", "zstandard", "tqdm", "jinja2"}
LISTING = """
import sys
from pgpack_cli.{app} import main
try:
    main()
except SystemExit as ended:
    print("ended with", ended.code, *sys.modules, file=sys.stderr)
"""


def loaded_by(program: str, *arguments: object) -> list[str]:
    """Modules that a command has loaded when it ends, which must be well."""
    code = LISTING.format(app=f"{program}_app")
    command = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    status, *modules = done.stderr.splitlines()[-1].removeprefix("ended with ").split()
    assert status == "0", done.stderr
    return modules


def modules_of(program: str, *arguments: object) -> set[str]:
    """Those of the top level."""
    return {module.partition(".")[0] for module in loaded_by(program, *arguments)}


@pytest.mark.parametrize("program", ["pgpack", "pgtrain"])
def test_help_loads_not_even_numpy(program: str) -> None:
    assert not modules_of(program, "--help") & {*HEAVY, "numpy"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_loads_not_even_numpy(verb: str) -> None:
    assert not modules_of("pgpack", verb, "--help") & {*HEAVY, "numpy"}


def test_dry_runs_of_training_and_demo_load_not_even_numpy(text_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    assert not modules_of("pgtrain", "run", "--data", text_folder, "-o", out, "--dry-run") & {*HEAVY, "numpy"}
    assert not modules_of("pgpack", "demo", "--out", tmp_path / "demo", "--dry-run") & {*HEAVY, "numpy"}


@pytest.mark.parametrize(
    "flags",
    [
        ("pack", "--recipe", "role:control=cast; *=gptq(bits=6)|rans|brotli", "-o", "new.pgpack"),
        ("pack", "--preset", "int6-zstd22", "--passthrough", 16, "-o", "new.pgpack"),
        ("pack", "--budget", "16MB", "-o", "new.pgpack"),
        ("sweep", "--out", "new-study"),
        ("sweep", "--bits", "4:6", "--codec", "zstd:22,rans", "--out", "new-study"),
    ],
)
def test_dry_runs_of_packing_load_numpy_and_nothing_heavier(model: Path, flags: tuple[object, ...]) -> None:
    verb, *rest = flags
    assert not modules_of("pgpack", verb, model, *rest, "--dry-run") & HEAVY
    assert not Path("new.pgpack").exists()
    assert not Path("new-study").exists()


def test_a_frontier_loads_templates_and_pictures_only_for_a_page_or_picture(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    page = tmp_path / "page.html"
    assert not modules_of("pgpack", "frontier", tmp_path / "study") & {"jinja2", "matplotlib", "torch"}
    assert "jinja2" in modules_of("pgpack", "frontier", tmp_path / "study", "-o", page)
    assert page.exists()


COUNTS = {  # modules that a command may load: what it takes now and a little more
    "help": (250, ("--help",)),
    "plan": (900, ("plan", "MODEL", "--recipe", "role:control=cast; *=rtn(bits=6)|rans")),
    "inspect": (900, ("inspect", "MODEL")),
    "eval": (1600, ("eval", "MODEL", "--max-tokens", "128")),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_command_loads_no_more_modules_than_its_budget_and_no_compiler(model: Path, name: str) -> None:
    most, words = COUNTS[name]
    found = loaded_by("pgpack", *(model if word == "MODEL" else word for word in words))
    assert len(found) <= most
    assert not {"torch._dynamo", "torch._inductor", "sympy", "transformers"} & set(found)
