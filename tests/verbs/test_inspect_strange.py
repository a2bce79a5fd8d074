"""What `inspect` says of values that have no ordinary spread, and of names that are not for a screen."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from pgpack_cli.pgpack_app import app
from safetensors.torch import save_file

import pgpack
from pgpack.errors import CheckpointError


@pytest.mark.parametrize(
    ("values", "std", "absmax"),
    [
        (torch.triu(torch.full((8, 8), float("-inf")), 1), 0.0, 0.0),
        (torch.full((4, 4), float("-inf")), 0.0, 0.0),
        (torch.tensor([[3 + 4j, -3 - 4j]]), 5.0, 5.0),
        (torch.tensor([[complex("nan"), 3 + 4j]]), 0.0, 5.0),
        (torch.tensor([[True, False]]), 0.5, 1.0),
        (torch.zeros(0, 3), 0.0, 0.0),
    ],
)
def test_masks_complex_and_empty_tensors_have_a_spread_of_what_is_finite(
    tmp_path: Path, values: torch.Tensor, std: float, absmax: float
) -> None:
    save_file({"x": values, "w": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = CliRunner().invoke(app, ["inspect", str(tmp_path / "a.safetensors"), "--json"])
    assert done.exception is None
    (row,) = [row for row in json.loads(done.stdout)["tensors"] if row["name"] == "x"]
    assert (row["std"], row["absmax"]) == pytest.approx((std, absmax))


def test_float64_beyond_float32_is_refused_without_a_warning(tmp_path: Path) -> None:
    save_file({"x": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "a.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match="x holds values beyond float32"):
            pgpack.open_checkpoint(tmp_path / "a.safetensors").tensor("x")


def test_half_a_character_is_no_name(tmp_path: Path) -> None:
    torch.save({"\udcff": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"'\\udcff' is no name of a tensor"):
        pgpack.open_checkpoint(tmp_path / "a.pt")
