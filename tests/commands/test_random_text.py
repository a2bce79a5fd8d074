"""`--calib random`: without text a model is calibrated on pieces of its tokenizer; nothing is evaluated on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors
from pgpack.text.find_tokenizer import load_tokenizer
from pgpack.text.random_pieces import LIMIT, random_text
from tests.commands.conftest import model, text_folder  # noqa: F401  fixtures
from tests.commands.workshop import pgpack, succeed
from tests.models.tiny_hf import write_folder, write_tokenizer

pytest.importorskip("transformers")
RECIPE = "ndim<=1=cast; *=tcq(step=0.01,states=4)|rans_scaled(states=4); @calib=tokens(count=1024)"
LENGTH = ("--seq-len", 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(write_folder(tmp_path_factory.mktemp("random") / "model", "llama-tied"))


def test_without_text_it_calibrates_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    flags = ("pack", folder, "--recipe", RECIPE, *LENGTH, "-q")
    files = {name: tmp_path / f"{name}.pgpack" for name in ("one", "two", "alone")}
    for name in ("one", "two"):
        assert "packed without a Hessian" not in succeed(pgpack(*flags, "--calib", "random", "-o", files[name])).err
    succeed(pgpack(*flags, "-o", files["alone"]))
    assert files["one"].read_bytes() == files["two"].read_bytes() != files["alone"].read_bytes()


@pytest.mark.parametrize(
    "flags", [("--recipe", RECIPE, "--eval"), ("--budget", "12kB", "--metric", "kl")], ids=["eval", "metric"]
)
def test_no_loss_is_measured_on_it(folder: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    refused = pgpack("pack", folder, *flags, "--calib", "random", *LENGTH, "-o", tmp_path / "a.pgpack")
    assert (refused.code, (tmp_path / "a.pgpack").exists()) == (1, False)
    assert "no text is named to measure a loss on" in refused.err
    said = pgpack("eval", folder, "--val", "random", *LENGTH)
    assert (said.code, "calibrate and validate nothing" in said.err) == (1, True)


def test_a_sweep_uses_what_calibrates_or_refuses_it_before_the_work(folder: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    few = ("sweep", folder, "--recipe", RECIPE, "-o", study, *LENGTH)
    (tmp_path / "text.txt").write_text("the quick brown fox\n" * 200)
    refused = pgpack(*few, "--calib", tmp_path / "text.txt")
    assert (refused.code, study.exists()) == (1, False)
    assert "no text is named to measure trials on; give --val too" in refused.err
    succeed(pgpack(*few, "--calib", "random"))
    (row,) = map(json.loads, (study / "trials.jsonl").read_text().splitlines())
    assert row["expected_loss"] > 0


def test_a_model_that_is_found_by_its_loss_needs_text(model: Path, tmp_path: Path) -> None:  # noqa: F811
    bare = tmp_path / "bare.safetensors"
    save_tensors(bare, dict(load_checkpoint(model).items()), {})
    tokenizer = next((model.parent / "text").glob("*.model"))
    flags = ("--calib", "random", "--tokenizer", tokenizer, *LENGTH, "-o", tmp_path / "a.pgpack")
    refused = pgpack("pack", bare, "--recipe", RECIPE, *flags)
    assert (refused.code, "found by its loss on text" in refused.err) == (1, True)
    val = next((model.parent / "text").glob("*_val_*.bin"))
    untrained = pgpack("pack", bare, "--recipe", RECIPE, *flags, "--val", val)
    assert "no model with these tensors reads this text" in untrained.err  # it was looked for on the text to evaluate


def test_both_sides_are_drawn_apart_and_come_to_an_end(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    calib, again, val = (random_text(tokenizer, side).tokens(500) for side in ("calib", "calib", "val"))
    assert (calib == again).all()
    assert not (calib == val).all()
    assert LIMIT / 4 < len(random_text(tokenizer, "calib").tokens()) < 4 * LIMIT
