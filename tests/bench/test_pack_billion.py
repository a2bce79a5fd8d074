"""The benchmark of a model of 1.1 B values measures what it says."""

from __future__ import annotations

import math
from pathlib import Path

from tests.bench.pack_billion import bench, llama_shapes, page


def test_the_shapes_are_those_of_a_model_of_1_1_b_values() -> None:
    assert sum(math.prod(shape) for shape in llama_shapes().values()) == 1_100_048_384


def test_a_small_one_is_written_packed_and_measured(tmp_path: Path) -> None:
    row = bench(tmp_path, 0.01)
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    assert 0 < row["n_bytes"] < row["n_values"]
    assert row["peak_bytes"] > 1e7
    assert "| peak memory |" in page(row)
