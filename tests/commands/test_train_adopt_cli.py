"""`pgtrain adopt`: a public script's checkpoint becomes one that every command can run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pgtrain.model.gpt import GPT, initialize_
from pgtrain.presets import PRESETS
from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.training.test_field_arithmetic import banked

SMALL = ("vocab_size=310", "model_dim=16", "rope_dims=4", "seq_len=32", "num_layers=7", "qk_gain_init=1.5")
CHANGES = tuple(word for change in SMALL for word in ("--set", change))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A final_model.pt in banks, as #1546 writes it, with lanes from layer 6."""
    fields = {"vocab_size": 310, "model_dim": 16, "rope_dims": 4, "seq_len": 32, "num_layers": 7, "lane_start": 6}
    config = replace(PRESETS["lanes-tiny"].model, **fields)
    path = tmp_path_factory.mktemp("foreign") / "final_model.pt"
    torch.save(banked(initialize_(GPT(config), 0).state_dict(), config.num_layers), path)
    return path


def test_an_adopted_checkpoint_evaluates_and_packs(foreign: Path, text_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    flags = ("--preset", "lanes-tiny", *CHANGES, "--set", "lane_start=6", "--data", text_folder)
    said = succeed(pgtrain("adopt", foreign, "-o", out, *flags)).out
    assert "banks split" in said
    measured = succeed(pgtrain("eval", out, "--json", "-q")).json
    assert 0 < measured["bpb"] < 20
    packed = ("pack", out, "--recipe", "*=cast|raw", "-o", tmp_path / "m.pgpack", "-q")
    succeed(pgpack(*packed))


def test_the_length_of_windows_may_be_given(foreign: Path, text_folder: Path, tmp_path: Path) -> None:
    lengths = [word for word in CHANGES if word != "seq_len=32"]
    lengths = [word for at, word in enumerate(lengths) if word != "--set" or lengths[at + 1 : at + 2] != ["--set"]]
    flags = ("--preset", "lanes-tiny", *lengths, "--set", "lane_start=6", "--data", text_folder, "--json")
    found = succeed(pgtrain("adopt", foreign, "-o", tmp_path / "m.safetensors", "--seq-len", 24, *flags)).json
    assert found["model"]["seq_len"] == 24


def test_the_wrong_system_is_refused_by_the_first_tensor(foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    refused = pgtrain("adopt", foreign, "--preset", "prism-wo-tiny", "-o", out)
    assert refused.code == 1
    assert "unknown blocks." in refused.err
    assert not out.exists()


def test_a_refusal_names_the_system_that_it_is(tmp_path: Path) -> None:
    source = tmp_path / "final_model.pt"
    torch.save(GPT(PRESETS["prism-wt-tiny"].model).state_dict(), source)
    refused = pgtrain("adopt", source, "--preset", "lanes-tiny", "-o", tmp_path / "m.safetensors")
    assert refused.code == 1
    assert "prism-wo-tiny, prism-wt-tiny, prism-static-tiny" in refused.err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("wings=1", "no field is called wings;"),
        ("wings", "give FIELD=VALUE"),
        ("tie_embeddings=yes", "true or false"),
        ("num_layers=x", "a whole number"),
    ],
)
def test_a_change_that_is_none_is_a_usage_error(change: str, sentence: str, foreign: Path, tmp_path: Path) -> None:
    refused = pgtrain("adopt", foreign, "--preset", "lanes", "--set", change, "-o", tmp_path / "m.safetensors")
    assert refused.code == 2
    assert sentence in refused.err
