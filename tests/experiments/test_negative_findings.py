"""The study of #212: its tables follow from its results, and what it measures with does what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.negative_findings.averaging import accumulated, exact_mean
from experiments.negative_findings.embeddings import captured, truncated
from experiments.replication.packing import relative_error
from experiments.replication.pages import EXPERIMENTS
from experiments.replication.plan import Study
from pgtrain.model.gpt import GPT

FOLDER = EXPERIMENTS / "negative_findings"


@pytest.mark.parametrize("name", Study.load(FOLDER).purposes)
def test_the_full_scale_can_be_built(name: str) -> None:
    run = Study.load(FOLDER).run(name, 1, "full")
    with torch.device("meta"):
        model = GPT(run.model)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1_000_000


def test_a_table_of_full_rank_is_kept_whole() -> None:
    table = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    assert captured(table)[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(truncated(table, 6), table, atol=1e-5)
    kept = truncated(table, 2)
    share = np.square(kept, dtype=np.float64).sum() / np.square(table, dtype=np.float64).sum()
    assert share == pytest.approx(captured(table)[1], abs=1e-5)


def test_sums_in_bf16_stop_growing_and_exact_means_do_not() -> None:
    snapshots = [{"w": torch.full((4,), 1.0)}, {"w": torch.full((4,), 3.0)}]
    (count, sums, running) = next(iter(accumulated(snapshots, (1024,))))
    assert count == 1024
    assert exact_mean(snapshots, 1024)["w"].tolist() == [2.0] * 4
    assert float(sums["w"][0]) < 1.5  # beyond 256 ones a bfloat16 cannot count
    assert float(running["w"][0]) == pytest.approx(2.0, abs=0.2)


def test_the_relative_error_is_of_all_tensors_together() -> None:
    original = {"a": np.array([3.0, 4.0], np.float32), "b": np.array([5.0], np.float32)}
    decoded = {"a": np.array([3.0, 4.0], np.float32), "b": np.array([4.0], np.float32)}
    assert relative_error(original, decoded, ["a", "b"]) == pytest.approx(1 / 50)


def test_pictures_are_in_both_formats() -> None:
    results = FOLDER / "results"
    stems = {path.stem for path in Path(results).glob("*.png")}
    assert stems == {path.stem for path in results.glob("*.svg")}
    assert len(stems) == 7
