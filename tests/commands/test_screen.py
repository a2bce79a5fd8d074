"""What reaches the terminal: tables as wide as it is, no colour, notes with what was used so far where asked."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pgpack_cli.screen.output import fitting

from pgpack.progress import waiting
from pgpack.tables import clipped, table
from tests.commands.workshop import pgpack, succeed
from tests.synthetic_study import write_study

COLOUR = re.compile("\x1b\\[[0-9;]*m")
WIDE = table(("bytes", "recipe"), [(1, "x" * 150), (22, "y" * 20)])


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_is_cut_to_the_terminal_and_grows_with_it(columns: int) -> None:
    lines = fitting(WIDE, columns).splitlines()
    assert max(map(len, lines)) == columns
    assert ".." in lines[1]
    assert lines[2] == WIDE.splitlines()[2]
    assert fitting(WIDE, 200) == WIDE


NAMES = [f"model.layers.{i}.{part}.weight" for i in (0, 10) for part in ("self_attn.q_proj", "post_attention_norm")]
SIZES = table(("tensor", "role", "bytes"), [(name, "attention", 1_000_000) for name in NAMES])


def test_long_names_become_initials_while_that_tells_them_apart_then_stand_above_their_row() -> None:
    short = fitting(SIZES, 55).splitlines()
    assert [line.split()[0] for line in short[1:]] == [
        "m.l.0.self_attn.q_proj.weight",
        "m.l.0.post_attention_norm.weight",
        "m.l.10.self_attn.q_proj.weight",
        "m.l.10.post_attention_norm.weight",
    ]
    narrow = fitting(SIZES, 42).splitlines()
    assert max(map(len, narrow)) <= 42
    assert narrow[2::2] == NAMES
    assert all(line.split() == ["attention", "1,000,000"] for line in narrow[3::2])


@pytest.mark.parametrize("columns", range(40, 140, 7))
def test_no_number_of_a_table_is_cut_or_lost_at_any_width(columns: int) -> None:
    heads = ("tensor", "recipe", *(f"number {i}" for i in range(9)))
    numbers = [[10_000 * n + i for i in range(9)] for n in (1, 2)]
    recipe = "*=tcq(step=0.001)|rans_scaled"
    wide = table(heads, [(f"blocks.{n}.attn.c_q.weight", recipe, *row) for n, row in enumerate(numbers)])
    text = fitting(wide, columns)
    assert max(map(len, text.splitlines())) <= columns
    for row in numbers:
        for number in row:
            assert text.count(f"{number:,}") == 1
    assert text.count(recipe) == 2


def test_a_sentence_is_broken_between_words_and_what_is_to_be_typed_is_not() -> None:
    check = "ok    error       " + "word " * 15 + "then `pgpack verify a.pgpack --checkpoint b.safetensors` and end"
    lines = fitting(check, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(line.strip() for line in lines) == check
    assert all(line.startswith(" " * 18) for line in lines[1:])
    assert any("`pgpack verify a.pgpack --checkpoint b.safetensors`" in line for line in lines)
    recipe = f"recipe    {RECIPES[0]}"
    assert fitting(recipe, 40) == recipe


RECIPES = (
    "@calib=tokens(count=512);role:control=cast;*=tcq(step=0.000125,states=64)|rans_scaled(states=64)",
    "ndim<=1=cast(dtype=fp16)|shuffle|brotli; tok_emb.*=gptq(bits=8,clip=20)|rans; *=gptq(bits=6,clip=12.85)|rans",
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_never_cut_within_a_word_or_a_number(recipe: str) -> None:
    line = f"1,234,567  0.02808  {recipe}"
    for columns in range(40, len(line)):
        cut = clipped(line, columns).removesuffix("..")
        assert len(cut) + 2 <= columns
        assert columns - len(cut) < 30
        assert line.startswith(cut)
        behind = line[len(cut) :].lstrip()
        assert (
            cut[-1] in "|,; "
            or (cut[-1] in ".=" and not behind[0].isdigit())
            or behind[0] in "(@"
            or line[len(cut)] == " "
        )
    assert clipped("x" * 30 + " 1,234,567", 36) == "x" * 30 + " .."


def test_another_program_gets_all_of_it_and_a_sentence_is_never_cut() -> None:
    assert fitting(WIDE, None) == WIDE
    assert fitting("x" * 150, 80) == "x" * 150


def test_nothing_is_coloured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path / "study")
    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        shown = succeed(pgpack("frontier", tmp_path / "study"))
        assert not COLOUR.search(shown.out + shown.err)


def test_verbose_notes_say_what_was_used_so_far_and_quiet_ones_nothing(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    words = ("frontier", tmp_path / "study", "--export", tmp_path / "trials.csv", "--force")
    told = succeed(pgpack(*words, "--verbose")).err
    assert re.search(r"^\[[\d.]+ s, [\d.]+ [MG]B\] wrote 64 trials", told, re.M)
    assert not succeed(pgpack(*words, "-q")).err
    assert pgpack(*words, "-q", "-v").code == 2


def test_what_waits_longer_than_a_second_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pgpack.progress.SILENT_S", 0.01)
    with waiting(True, "loading model.safetensors"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "loading model.safetensors ...\n"
    for silent in (False, None):
        with waiting(silent, "loading"):
            time.sleep(0.05)
    monkeypatch.setattr("pgpack.progress.SILENT_S", 5.0)
    with waiting(True, "loading"):
        pass
    assert not capsys.readouterr().err


SLOW_TORCH = """
import importlib.abc, sys, time
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            time.sleep(2.0)
sys.meta_path.insert(0, Slow())
from pgpack_cli.pgpack_app import main
main()
"""


@pytest.mark.parametrize(("verb", "flags"), [("eval", ()), ("calibrate", ("--tokens", "64", "-o", "c.safetensors"))])
@pytest.mark.parametrize("quiet", [False, True])
def test_the_wait_for_torch_is_named(
    verb: str, flags: tuple[str, ...], quiet: bool, model: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", SLOW_TORCH, verb, str(model), *flags, *(["-q"] if quiet else [])]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ("loading torch ..." in done.stderr) is not quiet
