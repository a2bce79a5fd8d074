"""Integers that may be packed weights of an unknown kind are said; masks, numbers and tables are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pgpack.checkpoint.checkpoint import load_checkpoint

WEIGHTS = {"emb.weight": torch.ones(40, 8), "norm.weight": torch.ones(8)}


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("q.w_packed", torch.ones(40, 8, dtype=torch.uint8)),
        ("q.w_packed", torch.ones(320, dtype=torch.int32)),  # in one row
        ("q.weight_int8", torch.ones(16, 16, dtype=torch.int8)),
        ("q.weight", torch.ones(16, 16, dtype=torch.int16)),  # as wide as high
    ],
)
def test_integers_that_may_be_weights_are_said(tmp_path: Path, name: str, tensor: torch.Tensor) -> None:
    save_file(WEIGHTS | {name: tensor}, tmp_path / "a.safetensors")
    shape = "x".join(map(str, tensor.shape))
    (note,) = load_checkpoint(tmp_path / "a.safetensors").notes
    assert f"a.safetensors: 1 tensor of integers (first: {name}, {str(tensor.dtype)[6:]} {shape})" in note
    assert note.endswith("should they be weights that were quantized, give the model that it was made from")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("h.0.attn.bias", torch.ones(1, 1, 16, 16, dtype=torch.uint8)),
        ("h.0.attn.bias", torch.ones(1, 1, 16, 16, dtype=torch.bool)),
        ("position_ids", torch.arange(200)[None]),
        ("relative_position_index", torch.ones(16, 17, dtype=torch.int64)),
        ("causal_mask", torch.ones(16, 17, dtype=torch.uint8)),
        ("ids", torch.arange(90)),
        ("n_seen", torch.tensor(7)),
        ("pieces", torch.arange(30, dtype=torch.int32)),  # few
    ],
)
def test_masks_numbers_and_what_is_little_are_not(tmp_path: Path, name: str, tensor: torch.Tensor) -> None:
    save_file(WEIGHTS | {name: tensor}, tmp_path / "a.safetensors")
    assert load_checkpoint(tmp_path / "a.safetensors").notes == ()
