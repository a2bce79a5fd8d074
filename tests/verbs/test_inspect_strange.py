"""What `inspect` says of values that have no ordinary spread, and of names that are not for a screen."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pgpack_cli.pgpack_app import app
from safetensors.torch import save_file

import pgpack
from pgpack.errors import CheckpointError
from pgpack.formats.own.reader import coded_arrays
from pgpack.inspect import inspect_artifact
from pgpack.unpack import unpack
from tests.hostile.crafting import array, document, with_digest


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


def test_what_lies_in_a_file_is_looked_at_without_sorting_its_rows_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sort takes the square of its rows: 131 kB kept a processor for five seconds, a megabyte for an hour."""
    rows = 5000
    order = np.random.default_rng(0).permutation(rows).astype("<u2")  # no order that we would have found
    symbols = (np.arange(rows) % 7).astype("|i1").reshape(rows, 1)
    part = [
        "uniform",
        {},
        "|i1",
        [rows, 1],
        0,
        [array("scales", "<f2", 1, 1), array("@0", "<u2", rows)],
        ["row_sort"],
    ]
    found = document(part, [rows, 1], 2 + 2 * rows)
    data = with_digest(found, symbols.tobytes() + np.ones(1, "<f2").tobytes() + order.tobytes())
    unpacked = unpack(data)
    assert unpacked.header is not None
    monkeypatch.setattr("pgpack.codecs.order.nearest_order", lambda symbols: pytest.fail("sorted again"))
    ((coded,),) = coded_arrays(data, unpacked.header, unpacked.records)
    np.testing.assert_array_equal(coded, symbols)
    assert inspect_artifact(data, unpacked).stages[0].before == rows
