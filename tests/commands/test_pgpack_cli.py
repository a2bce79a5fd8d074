"""The pgpack command as a whole: it answers quickly, refuses clearly, and its exit codes mean what they say."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import click
import pytest
from pgpack_cli.pgpack_app import VERBS, app

from pgpack.errors import StudyError
from tests.commands.workshop import pgpack

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "role:control=cast; *=rtn(bits=6)|rans"


def apart(*arguments: object) -> tuple[str, float]:
    """(stdout, CPU seconds) of a command that must succeed without loading torch, in a process of its own."""
    program = (
        "import sys, time\nfrom pgpack_cli.pgpack_app import app\n"
        f"app.main({[str(a) for a in arguments]!r}, prog_name='pgpack', standalone_mode=False)\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
        "print(time.process_time(), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, float(done.stderr.split()[-1])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)])
def test_help_answers_at_once_without_torch_and_shows_an_example(arguments: list[str]) -> None:
    printed, cpu_s = apart(*arguments)
    assert cpu_s < 1.0
    assert arguments == ["--version"] or "Example" in printed


def examples(verb: str) -> list[list[str]]:
    """The words of every example line in a verb's help, without `pgpack VERB`."""
    lines = click.unstyle(pgpack(verb, "--help").out).replace("\\\n", " ").splitlines()
    return [shlex.split(line.split(" >")[0])[2:] for line in lines if line.strip().startswith(f"pgpack {verb} ")]


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_a_verb_are_commands_that_parse(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgpack.recipe.spaces import expand

    monkeypatch.chdir(tmp_path)
    for named in ("train_gpt.py", "train.log", "about.json"):
        (tmp_path / named).touch()
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    assert examples(verb)
    for words in examples(verb):
        with contextlib.suppress(click.exceptions.Exit, StudyError):  # --explain and --check answer and end
            command.make_context(verb, list(words), parent=click.Context(app, **app.context_settings))
        for recipe in (value for flag, value in pairwise(words) if flag == "--recipe" and "=" in value):
            assert expand(recipe)


def test_dry_runs_answer_at_once_without_torch_and_write_nothing(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for arguments in (
        ("pack", model, "--recipe", RECIPE, "-o", out, "--dry-run", "--json"),
        ("pack", model, "--budget", "5kB", "-o", out, "--dry-run", "--json"),
        ("sweep", model, "--out", out, "--dry-run", "--json"),
        ("sweep", model, "--preset", "sdclip-brotli", "--out", out, "--dry-run", "--json"),
        ("demo", "--out", out, "--dry-run", "--json"),
    ):
        printed, cpu_s = apart(*arguments)
        assert cpu_s < 1.5
        assert json.loads(printed)
        assert not out.exists()


def test_a_dry_run_of_a_torch_file_loads_no_torch(tmp_path: Path) -> None:
    import torch

    stored = tmp_path / "model.pt"
    torch.save({"blocks.0.mlp.fc.weight": torch.ones(8, 4), "blocks.0.attn_scale": torch.ones(4)}, stored)
    printed, _ = apart("sweep", stored, "--recipe", "*=rtn(bits={4:8})|rans", "--out", tmp_path / "out", "--dry-run")
    assert printed.startswith("5 recipes")
    printed, _ = apart("pack", stored, "--recipe", RECIPE, "-o", tmp_path / "out", "--dry-run", "--json")
    assert json.loads(printed)["recipe"] == RECIPE


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("plan MODEL", 2, "give exactly one of --recipe, --preset"),
        ("plan MODEL --recipe *=rtn --preset sdclip-brotli", 2, "give exactly one of"),
        ("plan MODEL --preset nobody", 2, "known: baseline-int8-zlib"),
        ("plan MODEL --preset sdclip-brotli:x", 2, "'x' is not a number"),
        ("plan MODEL --recipe @missing.txt", 2, "cannot read missing.txt"),
        ("plan nowhere.safetensors --preset sdclip-brotli", 1, "does not exist"),
        ("plan . --preset sdclip-brotli", 1, "a folder; name the checkpoint file in it"),
        ("plan MODEL --recipe nothing*=rtn;*=rtn", 2, "governs nothing"),
        ("plan MODEL --recipe tok_emb.weight=rtn", 2, "no rule covers"),
        ("pack MODEL --budget 12parsecs -o out", 2, "is not a size"),
        ("pack MODEL --budget 5kB --passthrough 5 -o out", 2, "belongs to --preset"),
        ("pack MODEL --recipe *=gptq|rans -o out -q --strict", 1, "lack a Hessian"),
        (
            "pack MODEL --recipe *=gptq|rans --calibration nowhere -o out",
            1,
            "does not exist; write one with",
        ),
        ("unpack MODEL -o out", 1, "not an artifact of any known format"),
        ("unpack nowhere -o out", 1, "nowhere: No such file"),
        ("unpack . -o out", 1, "is a folder, not an artifact"),
        ("sweep . --out out --dry-run", 1, "a folder"),
        ("inspect nowhere", 1, "does not exist"),
        ("transcode . -o out", 1, "is a folder, not an artifact"),
        ("verify nowhere", 1, "nowhere: No such file"),
        ("eval MODEL --val nothing*.bin", 1, "no token shards match"),
        ("eval MODEL --tokenizer nowhere", 1, "does not exist"),
        ("calibrate MODEL -o out --tokens 0", 2, "not a whole number of at least 1"),
        ("sweep MODEL --recipe *=rtn --bits 4 --out out", 2, "give exactly one of"),
        ("sweep MODEL --bits 4,,5 --out out --dry-run", 2, "empty value"),
        ("sweep MODEL --recipe *=rtn(bits={9}) --out out --dry-run", 2, "from 2 to 8"),
        ("sweep MODEL --space nowhere --out out", 2, "--space nowhere: cannot be read (No such file"),
    ],
)
def test_a_mistake_gets_one_clear_answer_and_no_traceback(
    arguments: str, code: int, sentence: str, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    finished = pgpack(*(str(model) if word == "MODEL" else word for word in arguments.split()))
    assert sentence in finished.err
    assert finished.code == code
    assert not finished.out
    assert "Traceback" not in finished.err
    assert not (tmp_path / "out").exists()


def test_a_fault_in_a_recipe_is_marked_by_a_caret(model: Path) -> None:
    recipe = "role:control=cast; *=rtn(bits=6)|rnas"
    error, line, caret = pgpack("plan", model, "--recipe", recipe).err.splitlines()
    assert error.startswith("error: unknown stage 'rnas'; known here: ")
    assert line.strip() == recipe
    assert line[caret.index("^") :] == "rnas"


def test_recipes_are_read_from_text_and_files_alike(model: Path, tmp_path: Path) -> None:
    from pgpack.recipe.recipe import parse_recipe
    from tests.recipe.toml_form import recipe_to_toml

    (tmp_path / "recipe.toml").write_text(recipe_to_toml(parse_recipe(RECIPE)))
    (tmp_path / "recipe.txt").write_text(RECIPE.replace("; ", ";\n  "))
    digests = {
        pgpack("plan", model, "--recipe", value, "--json").json["recipe_digest"]
        for value in (RECIPE, tmp_path / "recipe.toml", tmp_path / "recipe.txt", f"@{tmp_path / 'recipe.txt'}")
    }
    assert digests == {parse_recipe(RECIPE).digest}
