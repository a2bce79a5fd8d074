"""What a third newcomer stumbled over: sentences with Python in them, advice that the command does not take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pgpack_cli.options.types import refuse_split_size

from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors
from pgpack.errors import BudgetExceeded
from pgpack.sizes import is_unit
from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.synthetic_study import write_study
from tests.words import WORDS


@pytest.fixture(scope="module")
def bare(model: Path) -> Path:
    path = model.with_name("bare.safetensors")
    save_tensors(path, dict(load_checkpoint(model).items()), {})
    return path


def test_a_hopeless_budget_is_a_sentence_and_no_tuple(bare: Path, tmp_path: Path) -> None:
    refused = pgpack("pack", bare, "--budget", 5, "-o", tmp_path / "x.pgpack", "-q")
    assert refused.code == 3
    assert refused.err.startswith("error: nothing fits 5 bytes: the coarsest recipe takes ")
    assert not set("()'") & set(refused.err)
    assert (str(BudgetExceeded("too many", 3)), BudgetExceeded("too many", 3).smallest) == ("too many", 3)


@pytest.mark.parametrize("verb", ["pack", "sweep"])
def test_a_size_of_two_words_is_named(bare: Path, tmp_path: Path, verb: str) -> None:
    refused = pgpack(verb, bare, "--budget", 5, "kB", "-o", tmp_path / "x")
    assert refused.code == 2
    assert "kB: no such file; a size is one word, such as --budget 5kB" in refused.err
    assert [is_unit(text) for text in ("MB", "kib", "%", "b", "", "x", "5MB")] == [True] * 3 + [False] * 4
    refuse_split_size(5, [Path("model.pt")])


def test_a_search_is_named_with_its_flags(bare: Path, tmp_path: Path) -> None:
    for flags in (("--trials", 5), ("--seed", 3)):
        refused = pgpack("sweep", bare, *flags, "-o", tmp_path / "study")
        assert (refused.code, "belong to --search NAME" in refused.err) == (2, True)
    assert not (tmp_path / "study").exists()


def test_an_axis_that_is_no_number_is_said_in_words(bare: Path, tmp_path: Path) -> None:
    refused = pgpack("sweep", bare, "--clip-sigmas", "x", "-o", tmp_path / "study")
    assert (refused.code, "--clip-sigmas x: 'x' is not a number" in refused.err) == (2, True)


def test_a_page_is_written_under_a_name_of_a_page(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    refused = pgpack("report", tmp_path / "study", "-o", tmp_path / "page.pdf")
    assert (refused.code, "page.pdf: the page's name must end in .html" in refused.err) == (2, True)
    assert not (tmp_path / "page.pdf").exists()
    asked = pgpack("inspect", tmp_path / "study")
    assert f"a study, not a checkpoint; look at it with: pgpack frontier {tmp_path / 'study'}" in asked.err


def test_what_no_config_goes_with_is_not_written_as_a_model(bare: Path, tmp_path: Path) -> None:
    packed = tmp_path / "bare.pgpack"
    succeed(pgpack("pack", bare, "--recipe", "*=rtn(bits=4)|rans", "-o", packed, "-q"))
    refused = pgpack("unpack", packed, "-o", tmp_path / "back.gguf")
    assert refused.code == 2
    assert "there is no config.json with a model_type to tell its architecture; write NAME.safetensors" in refused.err


def test_an_empty_picture_is_not_drawn(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.ones(8, 4)}, tmp_path / "plain.pt")
    refused = pgpack("analyze", tmp_path / "plain.pt", "-o", tmp_path / "empty.png")
    assert (refused.code, "has none that are known here; leave -o out" in refused.err) == (2, True)
    assert not (tmp_path / "empty.png").exists()
    succeed(pgpack("analyze", tmp_path / "plain.pt"))


def test_data_takes_the_field_that_its_refusal_names(tmp_path: Path) -> None:
    rows, folder = tmp_path / "rows.jsonl", tmp_path / "text"
    words = [" ".join(WORDS[n % len(WORDS)] for n in range(start, start + 90)) for start in range(40)]
    rows.write_text("".join(json.dumps({"body": text, "id": n}) + "\n" for n, text in enumerate(words)))
    flags = ("-o", folder, "--vocab-size", 300, "--val-fraction", 0.2, "-q")
    refused = pgtrain("data", rows, *flags)
    assert (refused.code, "name one as --field" in refused.err) == (1, True)
    succeed(pgtrain("data", rows, "--field", "body", *flags))
    assert (folder / "corpus.json").exists()
    assert pgtrain("data", "--field", "body", "-o", tmp_path / "other").code == 2


def test_sentences_on_text_name_the_file_and_a_command_that_works(bare: Path, tmp_path: Path) -> None:
    text, empty = tmp_path / "one.txt", tmp_path / "empty.txt"
    text.write_text("x")
    empty.write_text("")
    refused = pgtrain("run", "--data", text, "-o", tmp_path / "m.safetensors")
    assert f"make one with: pgtrain data {text} -o text" in refused.err
    refused = pgtrain("data", text, "-o", tmp_path / "text", "-q")
    assert "too short to be split into training and validation; give more" in refused.err
    refused = pgpack("eval", bare, "--text", empty, "--tokenizer", bare.parent / "text" / "tokenizer.model")
    assert f"{empty} holds no text; give another" in refused.err


def test_a_misspelt_kind_of_text_is_told_the_nearest(model: Path, tmp_path: Path) -> None:
    words = ("pack", model, "--budget", "1MB", "-o", tmp_path / "x.pgpack", "--calib", "randm")
    refused = pgpack(*words)
    assert (refused.code, "randm; did you mean 'random'?" in refused.err) == (1, True)


def test_a_models_folder_is_not_judged_as_a_submission(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(bytes(200_000))
    refused = pgpack("verify", tmp_path)
    assert (refused.code, "is no submission folder" in refused.err, "pgpack pack" in refused.err) == (1, True, True)
