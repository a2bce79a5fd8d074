"""Flags and words: one spelling for what is written, the nearest for what is mistyped, sizes as people write them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from pgpack_cli.pgpack_app import FIRST, VERBS, app
from pgpack_cli.pgtrain_app import VERBS as TRAIN_VERBS
from pgpack_cli.pgtrain_app import app as train_app

from pgpack.bench.rates import RATES_FILE, Rates, keep_rates, read_rates
from tests.commands.workshop import pgpack, pgtrain, succeed

COMMANDS = [(app, "pgpack", verb) for verb in VERBS] + [(train_app, "pgtrain", verb) for verb in TRAIN_VERBS]
RECIPE = "role:control=cast; *=rtn(bits=6)|rans"
SGR = re.compile("\x1b\\[[0-9;]*m")  # colours


@pytest.mark.parametrize(("group", "program", "verb"), COMMANDS)
def test_what_is_written_is_named_by_o_and_output_and_h_is_help(group: click.Group, program: str, verb: str) -> None:
    command = group.get_command(click.Context(group), verb)
    assert command is not None
    for parameter in command.params:
        names = set(parameter.opts)
        assert not names & {"-o", "--output", "--out"} or {"-o", "--output"} == names, verb
    run = {"pgpack": pgpack, "pgtrain": pgtrain}[program]
    short, long = run(verb, "-h"), run(verb, "--help")
    assert (short.code, short.out) == (0, long.out)
    assert not re.search(r"--out\b", long.out), verb
    typed = re.compile(r" *(pgpack|pgtrain|torchrun) ")  # examples are not broken
    assert not [line for line in long.out.splitlines() if len(line) > 80 and not typed.match(line)]
    assert not SGR.search(long.out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("swep",), "no command 'swep'; did you mean 'sweep'?"),
        (("cache", "lss"), "no command 'lss'; did you mean 'ls'?"),
        (("sweep", "--budgt", "3"), "no option '--budgt'; did you mean '--budget'?"),
        (("unpack", "x", "--outpt", "y"), "no option '--outpt'; did you mean '--output'?"),
        (("cache", "gc", "--alll"), "no option '--alll'; did you mean '--all'?"),
        (("pack", "--zzzzz"), "no option '--zzzzz'"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(words: tuple[str, ...], said: str) -> None:
    finished = pgpack(*words)
    assert finished.code == 2
    assert finished.err.rstrip().endswith(said)


def test_without_a_command_the_first_five_are_shown_and_they_parse() -> None:
    finished = pgpack()
    assert finished.code == 2
    assert len(FIRST) == 5
    for line, _ in FIRST:
        assert line in finished.out
        assert line.split()[1] in VERBS
    assert max(map(len, finished.out.splitlines())) <= 80


@pytest.mark.parametrize(("group", "program", "verb"), COMMANDS)
def test_completion_offers_what_help_shows_and_nothing_older(group: click.Group, program: str, verb: str) -> None:
    asked = ShellComplete(group, {}, program, f"_{program.upper()}_COMPLETE")
    offered = {found.value for found in asked.get_completions([verb], "--")}
    shown = {"pgpack": pgpack, "pgtrain": pgtrain}[program](verb, "--help").out
    assert "--help" in offered
    assert not [flag for flag in offered if not re.search(rf"{flag}\b", shown)]
    assert "--out" not in offered


@pytest.mark.parametrize("program", ["pgpack", "pgtrain"])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_makes_a_shell_ask_the_program(shell: str, program: str, tmp_path: Path) -> None:
    """Where the shell is there it reads the lines without a word, one that no completion was asked for too."""
    source = succeed({"pgpack": pgpack, "pgtrain": pgtrain}[program]("completion", shell)).out
    assert f"_{program.upper()}_COMPLETE" in source
    assert shell in source
    if shell == "zsh":
        assert source.index("compinit") < source.index("compdef _")
    (tmp_path / "lines").write_text(source)
    if (found := shutil.which(shell)) is not None:
        plain = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell]
        command = [found, plain, "-c", f". {tmp_path / 'lines'}"]
        env = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pgpack_answers_a_shell_that_asks(tmp_path: Path) -> None:
    def answers(typed: str) -> str:
        asked = {"_PGPACK_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        program = [sys.executable, "-c", "from pgpack_cli.pgpack_app import main; main()"]
        done = subprocess.run(program, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
        assert not done.stderr
        return done.stdout

    assert "plain,sweep" in answers("pgpack ")
    assert "plain,--budget" in answers("pgpack pack -")
    assert "plain,nats" in answers("pgpack frontier --metric ")


@pytest.mark.parametrize(("size", "n_bytes"), [("9kB", 9000), ("9k", 9000), ("9e3", 9000), ("8.8KiB", 9011)])
def test_a_budget_is_taken_as_people_write_sizes(model: Path, tmp_path: Path, size: str, n_bytes: int) -> None:
    document = succeed(pgpack("pack", model, "--budget", size, "-o", tmp_path / "x", "--dry-run", "--json")).json
    assert document["budget"] == n_bytes


def test_a_share_is_of_the_fp32_size_everywhere(model: Path, tmp_path: Path) -> None:
    told = succeed(pgpack("pack", model, "--budget", "50%", "-o", tmp_path / "x", "--dry-run", "--json")).json
    half = 2 * told["n_params"]
    assert told["budget"] == half
    space = ("--recipe", RECIPE, "--max-tokens", 512, "--budget", "50%", "-q")
    swept = succeed(pgpack("sweep", model, *space, "--output", tmp_path / "study", "--json")).json
    assert swept["budget"] == half
    assert succeed(pgpack("frontier", tmp_path / "study", "--budget", "25 %", "--json")).json["budget"] == half // 2
    artifact = tmp_path / "study" / "best.pgpack"
    assert pgpack("verify", artifact, "--checkpoint", model, "--budget", "50%").code == 0
    assert pgpack("verify", artifact, "--checkpoint", model, "--budget", "1%").code == 4
    nothing = pgpack("verify", artifact, "--budget", "50%")
    assert nothing.code == 2
    assert "there is no fp32 size that it is of" in nothing.err


def test_a_dry_run_tells_time_and_memory_by_rates_that_the_machine_was_measured_at(
    model: Path, tmp_path: Path
) -> None:
    cache, flags = tmp_path / "cache", ("--dry-run", "--json", "--cache", tmp_path / "cache")
    jobs: dict[str, tuple[object, ...]] = {
        "pack": ("--budget", "9kB", "-o", tmp_path / "x"),
        "sweep": ("-o", tmp_path / "study"),
    }
    for verb, words in jobs.items():
        cost = succeed(pgpack(verb, model, *words, *flags)).json["cost"]
        assert cost["seconds"] > 0
        assert cost["n_bytes"] > 100_000_000
        assert not cost["measured_here"]
    keep_rates(cache, Rates(1e3, 1e6, 1e4, measured=True))
    assert read_rates(cache) == Rates(1e3, 1e6, 1e4, measured=True)
    for verb, words in jobs.items():
        slow = succeed(pgpack(verb, model, *words, *flags)).json["cost"]
        assert slow["measured_here"]
        assert slow["seconds"] > 100
    (cache / RATES_FILE).write_text('{"trellis": "fast"}')
    assert read_rates(cache) == Rates()


def test_doctor_says_what_is_there_and_what_a_job_will_take(tmp_path: Path) -> None:
    told = succeed(pgpack("doctor", "--parameters", 1_000_000, "--cache", tmp_path, "--json")).json
    assert told["libraries"]["torch"]
    assert told["cores"] >= 1
    assert set(told["extras"]) >= {"hf", "gguf", "parquet"}
    assert json.loads((tmp_path / RATES_FILE).read_text())["trellis"] == told["rates"]["trellis"] > 0
    (job,) = told["jobs"]
    assert 0 < job["pack_s"] < job["budget_s"]


def test_a_recipe_prints_what_was_written_even_where_it_is_the_default() -> None:
    from pgpack.recipe.recipe import Recipe

    written, silent = Recipe.parse("*=gptq(bits=6,clip=12.85)|rans"), Recipe.parse("*=gptq|rans")
    assert str(written) == "*=gptq(bits=6,clip=12.85)|rans"
    assert str(silent) == "*=gptq|rans"
    assert (written, written.digest) == (silent, silent.digest)
