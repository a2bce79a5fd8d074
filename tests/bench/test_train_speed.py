"""A run is not slower than the loop that one would write by hand."""

from __future__ import annotations

import dataclasses

import pytest

from pgtrain.presets import DEMO
from tests.bench.train_speed import measure


@pytest.mark.slow
def test_a_run_is_at_least_as_fast_as_a_plain_loop_of_the_same_model_and_optimizers() -> None:
    row = measure("demo", 4, "cpu", dataclasses.replace(DEMO.training, steps=100))
    assert row["against_plain"] >= 1.0, row
