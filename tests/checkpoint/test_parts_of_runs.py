"""What one process of many wrote is no whole model: it is refused, or said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError

WEIGHTS = {"emb.weight": torch.ones(6, 4), "head.weight": torch.ones(6, 4), "norm.weight": torch.ones(4)}


@pytest.mark.parametrize("kept", [[], ["norm.weight"]])
def test_tensors_that_another_process_holds_are_missed(tmp_path: Path, kept: list[str]) -> None:
    cut = {name: weight if name in kept else torch.empty(0) for name, weight in WEIGHTS.items()}
    torch.save({"module": cut, "ds_version": "0.14"}, tmp_path / "mp_rank_00_model_states.pt")
    save_file(cut, tmp_path / "model.safetensors")
    for name in ("mp_rank_00_model_states.pt", "model.safetensors"):
        with pytest.raises(CheckpointError, match="of 3 tensors hold no value"):
            load_checkpoint(tmp_path / name)


def test_a_tensor_without_values_among_others_is_read(tmp_path: Path) -> None:
    save_file(WEIGHTS | {"cache": torch.empty(0, 4)}, tmp_path / "model.safetensors")
    assert load_checkpoint(tmp_path / "model.safetensors").shapes["cache"] == (0, 4)


@pytest.mark.parametrize(
    ("name", "others", "said"),
    [
        ("consolidated.00.pth", ["consolidated.01.pth"], "consolidated.01.pth beside it is not"),
        ("mp_rank_00_model_states.pt", ["mp_rank_01_model_states.pt"], "mp_rank_01_model_states.pt beside it is not"),
        ("model-00001-of-00002.pt", [], "one part of several"),
        ("model_rank0.pt", ["model_rank1.pt", "model_rank2.pt"], "are not"),
        ("consolidated.00.pth", [], ""),
        ("ckpt_1000.pt", ["ckpt_2000.pt"], ""),
        ("model.pt", ["model2.pt"], ""),
    ],
)
def test_one_part_of_several_is_said_to_be_one(tmp_path: Path, name: str, others: list[str], said: str) -> None:
    for each in (name, *others):
        torch.save(WEIGHTS, tmp_path / each)
    notes = load_checkpoint(tmp_path / name).notes
    assert len(notes) == bool(said)
    assert said in "".join(notes)
