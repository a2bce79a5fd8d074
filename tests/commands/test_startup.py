"""Help and dry runs answer at once: they load nothing that takes long. `make bench-start` measures the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pgpack_cli.pgpack_app import VERBS

from pgpack.bench.rates import Rates, keep_rates
from tests.commands.workshop import pgpack, pgtrain, succeed
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


def loaded_by(program: str, *arguments: object, code: int = 0) -> list[str]:
    """Modules that a command has loaded when it ends, with exit code `code`."""
    listing = LISTING.format(app=f"{program}_app")
    command = [sys.executable, "-c", listing, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    status, *modules = done.stderr.splitlines()[-1].removeprefix("ended with ").split()
    assert status == str(code), done.stderr
    return modules


def modules_of(program: str, *arguments: object, code: int = 0) -> set[str]:
    """Those of the top level."""
    return {module.partition(".")[0] for module in loaded_by(program, *arguments, code=code)}


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


DRY_RUNS = {
    "calibrate": ("pgpack", "calibrate", "MODEL", "-o", "new.safetensors"),
    "eval": ("pgpack", "eval", "MODEL"),
    "transcode": ("pgpack", "transcode", "ARTIFACT", "-o", "new.pgpack"),
    "equal loss": (
        *("pgpack", "transcode", "ARTIFACT", "-o", "new.pgpack"),
        *("--checkpoint", "MODEL", "--equal-loss", "newer.pgpack"),
    ),
    "verify": ("pgpack", "verify", "ARTIFACT", "--checkpoint", "MODEL", "--eval"),
    "data": ("pgtrain", "data", "-o", "new-text"),
    "train": ("pgtrain", "run", "--data", "TEXT", "-o", "new.safetensors"),
    "pgtrain eval": ("pgtrain", "eval", "MODEL", "--stride", 8, "--ttt", "sgd"),
    "finetune": ("pgtrain", "finetune", "MODEL", "--for-packer", "9kB", "-o", "new.safetensors"),
}


@pytest.mark.parametrize("name", DRY_RUNS)
def test_a_dry_run_of_whatever_takes_long_tells_time_and_memory_and_loads_nothing_heavy(
    model: Path, artifact: Path, text_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("PGPACK_CACHE", str(tmp_path))
    files = {"MODEL": model, "ARTIFACT": artifact, "TEXT": text_folder}
    program, *words = [files.get(str(word), word) for word in DRY_RUNS[name]]
    assert not modules_of(str(program), *words, "--dry-run") & HEAVY
    commands = {"pgpack": pgpack, "pgtrain": pgtrain}
    quick = succeed(commands[str(program)](*words, "--dry-run", "--json")).json["cost"]
    keep_rates(tmp_path, Rates(1.28e4, 2e8, 2.5e4, measured=True))
    slow = succeed(commands[str(program)](*words, "--dry-run", "--json")).json["cost"]
    assert slow["seconds"] == pytest.approx(100 * quick["seconds"])
    assert slow["n_bytes"] == quick["n_bytes"] > 100_000_000
    assert "rates measured here" in succeed(commands[str(program)](*words, "--dry-run")).out
    for new in ("new.safetensors", "new.pgpack", "newer.pgpack", "new-text"):
        assert not Path(new).exists()


def test_what_takes_long_is_what_has_a_bar() -> None:
    """A dry run for every command that packs, runs a model, trains or reads a corpus."""
    long = {
        "pgpack": ("sweep", "pack", "calibrate", "eval", "transcode", "verify", "demo"),
        "pgtrain": ("run", "finetune", "eval", "data"),
    }
    for program, command in (("pgpack", pgpack), ("pgtrain", pgtrain)):
        for verb in long[program]:
            assert "--dry-run" in succeed(command(verb, "--help")).out, verb


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


MISSING = {
    "pgpack": (
        ("generate", "nothere", "hi"), ("compare", "nothere", "either", "--prompt", "hi"), ("eval", "nothere"),
        ("pack", "nothere", "--budget", "9kB", "-o", "new.pgpack"), ("inspect", "nothere"), ("analyze", "nothere"),
        ("calibrate", "nothere", "-o", "new.safetensors"), ("sweep", "nothere", "-o", "new-study"),
    ),
    "pgtrain": (
        ("eval", "nothere"), ("adopt", "nothere", "-o", "new.safetensors"),
        ("finetune", "nothere", "--for-packer", "9kB", "-o", "new.safetensors"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("program", "words"), [(name, words) for name in MISSING for words in MISSING[name]])
def test_a_model_that_is_not_there_is_known_before_anything_heavy_is_loaded(
    program: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not modules_of(program, *words, code=1) & {"torch", "transformers"}


@pytest.mark.parametrize("verb", [("eval",), ("calibrate", "-o", "new.safetensors"), ("pack", "-o", "new.pgpack")])
def test_text_that_is_not_there_is_known_before_anything_heavy_is_loaded(model: Path, verb: tuple[str, ...]) -> None:
    recipe = ("--recipe", "*=cast") if verb[0] == "pack" else ()
    loaded = modules_of("pgpack", verb[0], model, *verb[1:], *recipe, "--text", "nothere", code=1)
    assert not loaded & {"torch", "transformers"}
