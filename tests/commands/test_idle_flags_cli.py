"""Flags that would do nothing, or less than they seem to, are refused or said out loud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pgpack.checkpoint.checkpoint import save_tensors
from tests.commands.workshop import pgpack, pgtrain, succeed

RECIPE = "role:control=cast; *=rtn(bits=4)|rans"


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ("plan MODEL --recipe *=rtn --recipe *=rtn(bits=4)", "--recipe"),
        ("pack MODEL -o a --budget 5kB --out b", "--output"),
        ("sweep MODEL --out a --bits 4 --max-tokens 64 --max-tokens=128", "--max-tokens"),
        ("eval MODEL --seq-len 16 --seq-len 16", "--seq-len"),
        ("cache gc --limit 1GB --limit 2GB", "--limit"),
    ],
)
def test_an_option_of_one_value_is_given_once(
    arguments: str, flag: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = pgpack(*(str(model) if word == "MODEL" else word for word in arguments.split()))
    assert refused.code == 2
    assert f"{flag} is given 2 times; give it once" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_what_may_be_repeated_and_flags_are_taken_as_often_as_they_come(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    (tmp_path / "b.txt").write_text("a lazy dog runs to an old river and the fox. " * 40)
    text = ("--text", tmp_path / "a.txt", "--text", tmp_path / "b.txt", "--max-tokens", 64)
    succeed(pgpack("eval", model, *text, "-q", "-q"))
    refused = pgtrain("run", "--layers", 2, "--layers", 3)
    assert (refused.code, "--layers is given 2 times" in refused.err) == (2, True)


def test_a_field_without_rows_to_read_it_of_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the quick brown fox jumps over the lazy dog. " * 400)
    for text in (("--text", tmp_path / "a.txt"), ("--val", "builtin")):
        refused = pgpack("eval", model, *text, "--field", "body")
        assert refused.code == 1
        assert "--field body is of .jsonl and .parquet, and the text has neither" in refused.err


def test_flags_of_a_model_that_is_not_run_are_said(model: Path, artifact: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "a.pgpack", "--force")
    said = succeed(pgpack("pack", model, "--recipe", RECIPE, "--device", "cpu", *out)).err
    assert "--device cpu changes nothing: no model runs for this recipe" in said
    said = succeed(pgpack("pack", model, "--recipe", RECIPE, "--device", "cpu", "--eval", "--max-tokens", 64, *out))
    assert "changes nothing" not in said.err
    said = succeed(pgpack("verify", artifact, "--device", "cpu", "--field", "x")).err
    assert "--field x and --device cpu change nothing: without --eval no model runs" in said


def test_a_sweep_that_is_stopped_before_its_first_trial_names_no_folder(tmp_path: Path) -> None:
    from pgpack_cli.verbs.sweep import _last_word

    assert _last_word(tmp_path / "study") == "stopped before the first trial; repeat the same command to begin"
    (tmp_path / "trials.jsonl").write_text("{}\n")
    assert f"pgpack frontier {tmp_path}" in _last_word(tmp_path)


@pytest.mark.parametrize(
    "verb", [("pack", "--recipe", "*=rtn(bits=4)|rans"), ("sweep", "--recipe", "*=rtn(bits=4)|rans")]
)
def test_flags_of_text_and_model_are_said_once_where_no_text_is_given(
    verb: tuple[str, ...], bare_model: Path, tmp_path: Path
) -> None:
    flags = ("--model", "mine.py:build", "--set", "a=b", "--seq-len", 16, "--device", "cpu")
    said = succeed(pgpack(verb[0], bare_model, *verb[1:], *flags, "-o", tmp_path / "out")).err
    named = "--seq-len 16, --device cpu, --model mine.py:build and --set a=b change nothing: no text is given"
    assert " ".join(said.split()).count(named) == 1
    assert said.count("change nothing") == 1


def test_text_that_no_recipe_reads_is_said_with_the_flag_that_measures_on_it(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the quick brown fox jumps over the lazy dog. " * 400)
    text = ("--text", tmp_path / "a.txt", "--max-tokens", 64)
    said = succeed(pgpack("pack", model, "--recipe", RECIPE, *text, "-o", tmp_path / "a.pgpack")).err
    assert "change nothing: no model runs for this recipe; --eval measures the loss" in " ".join(said.split())


def test_a_command_that_refuses_for_want_of_text_says_that_alone(bare_model: Path) -> None:
    said = pgpack("eval", bare_model, "--seq-len", 16, "--device", "cpu").err
    assert "names no validation text" in said
    assert "nothing" not in said


@pytest.fixture
def bare_model(tmp_path: Path) -> Path:
    file = tmp_path / "bare.safetensors"
    save_tensors(file, {"a.weight": np.ones((8, 8), "f4"), "b.weight": np.full((16, 8), 0.5, "f4")}, {})
    return file
