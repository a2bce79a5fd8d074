"""Tensors that are views of less than they show: read where the whole is in proportion to the file, else refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError

TORCH = {"a zip file": True, "the format before": False}


@pytest.mark.parametrize("zipped", TORCH.values(), ids=TORCH)
def test_a_mask_that_is_stored_once_is_read_whole(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    mask = torch.arange(8.0).expand(1000, 8)
    torch.save({"w": torch.ones(4, 4), "mask": mask}, path, _use_new_zipfile_serialization=zipped)
    assert (load_checkpoint(path).tensor("mask") == mask.numpy()).all()


@pytest.mark.parametrize("zipped", TORCH.values(), ids=TORCH)
@pytest.mark.parametrize("side", [1 << 13, 1 << 20, 1 << 31])
def test_what_is_far_more_than_is_stored_is_refused_before_it_is_made(
    side: int, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "m.pt"
    shown = torch.zeros(1).as_strided((side, side), (0, 0))
    torch.save({"w": torch.ones(4, 4), "shown": shown}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"more than is unpacked|no array can have"):
        load_checkpoint(path)


def test_more_dimensions_than_arrays_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(4, 4), "deep": torch.ones((1,) * 100)}, path)
    with pytest.raises(CheckpointError, match="deep claims a shape that no array can have"):
        load_checkpoint(path)


def test_a_tensor_without_values_is_called_that_however_large(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(4, 4), "meta": torch.empty(1 << 15, 1 << 15, device="meta")}, path)
    with pytest.raises(CheckpointError, match=r"meta holds no values \(it is on the device meta\); save"):
        load_checkpoint(path)
