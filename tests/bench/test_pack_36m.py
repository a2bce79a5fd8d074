"""The benchmark measures what it says: the record's shapes, every preset and codec, its own goals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pgpack.recipe.presets import PRESETS
from tests.bench.pack_36m import CODINGS, goals, plans
from tests.bench.record_stack import inputs, record_shapes, second_moments, weights

ROOT = Path(__file__).resolve().parents[2]


def test_the_stack_has_the_records_size() -> None:
    n_params = sum(int(np.prod(shape)) for shape in record_shapes().values())
    assert n_params == 35_944_602 - 66  # the records' logs, less the lambdas of their parallel residuals


def test_rows_differ_in_scale_and_have_heavy_tails() -> None:
    fc = weights(1, 256)["blocks.0.mlp.fc.weight"].astype(np.float64)
    std = fc.std(axis=1)
    assert 0.03 < np.quantile(std, 0.1) < np.median(std) < np.quantile(std, 0.9) < 0.07
    assert 3.5 < np.mean((fc / std[:, None]) ** 4) < 5.0  # a Gaussian has 3, Student t with 8 degrees 4.5


def test_hessians_are_positive_and_far_from_white() -> None:
    eigenvalues = np.linalg.eigvalsh(second_moments(inputs(np.random.default_rng(0), 64)).astype(np.float64))
    assert eigenvalues[0] > 0
    assert eigenvalues[-1] > 100 * eigenvalues[0]


def test_every_preset_and_codec_has_a_row() -> None:
    assert set(plans(0.1)) == {
        "tcq-8+rans_scaled",
        "tcq-64+rans_scaled",
        *PRESETS,
        *(f"gptq+{name}" for name in CODINGS),
    }


def test_a_missed_goal_is_said() -> None:
    rows = [{"name": "a", "pack_peak": 301, "decode_s": 1.0}, {"name": "b", "pack_peak": 299, "decode_s": 6.0}]
    memory, decoding = goals(rows, 100)
    assert memory.endswith("missed by a 3.01x")
    assert decoding.endswith("missed by b 6.0 s")


@pytest.mark.slow
def test_a_small_run_writes_table_and_json(tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "b.json"), "--markdown", str(tmp_path / "b.md")]
    command = [
        sys.executable,
        "-m",
        "tests.bench.pack_36m",
        "--scale",
        "0.1",
        "--only",
        "gptq+rans",
        "baseline",
        *files,
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["gptq+rans", "baseline-int8-zlib"]
    for row in rows:
        assert row["n_bytes"] > 0
        assert row["decode_s"] > 0
        assert f"| {row['name']} | {row['n_bytes']:,} |" in (tmp_path / "b.md").read_text()
