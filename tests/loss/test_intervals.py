"""Laws of intervals: they cover the truth as often as they say, and pairing shares the text's own spread away."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.errors import StudyError
from pgpack.loss.intervals import (
    MAX_BLOCKS,
    block_starts,
    bpb_difference,
    pack_floats,
    ratio,
    student_quantile,
    unpack_floats,
)

TRUTH = 0.003  # bits per byte


def synthetic_text(rng: np.random.Generator, n_blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats of two models by block, and bytes; blocks differ in length and hardness, and harder ones differ more."""
    n_bytes = rng.integers(600, 1400, n_blocks)
    hardness = rng.lognormal(0, 0.3, n_blocks)
    nats = n_bytes * math.log(2) * (2.0 * hardness)
    excess = n_bytes * math.log(2) * TRUTH * rng.gamma(2.0, 0.5, n_blocks)
    return nats + excess, nats, n_bytes


@pytest.mark.parametrize("n_blocks", [8, 16, 64])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(n_blocks: int) -> None:
    rng = np.random.default_rng(n_blocks)
    hits = 0
    for _ in range(2000):
        found = bpb_difference(*synthetic_text(rng, n_blocks))
        half = found.half_width()
        assert half is not None
        hits += abs(found.value - TRUTH) <= half
    assert 0.90 <= hits / 2000 <= 0.965  # skewed gamma noise on 8 blocks costs a few percent


def test_an_interval_that_ignores_the_pairing_is_many_times_wider() -> None:
    a, b, n_bytes = synthetic_text(np.random.default_rng(0), 64)
    paired = bpb_difference(a, b, n_bytes).standard_error
    alone = ratio(a / math.log(2), n_bytes).standard_error
    assert paired is not None
    assert alone is not None
    assert 100 * paired < alone


def test_the_standard_error_agrees_with_a_bootstrap_over_blocks() -> None:
    rng = np.random.default_rng(1)
    a, b, n_bytes = synthetic_text(rng, 64)
    drawn = rng.integers(0, 64, (20_000, 64))
    again = ((a - b)[drawn].sum(1) / n_bytes[drawn].sum(1)) / math.log(2)
    found = bpb_difference(a, b, n_bytes)
    assert found.standard_error == pytest.approx(float(again.std()), rel=0.05)


def test_equal_models_differ_by_nothing_for_sure_and_one_block_says_nothing() -> None:
    assert ratio([0.0, 0.0, 0.0], [1, 2, 3]).standard_error == 0
    assert ratio([1.0], [2]).half_width() is None
    with pytest.raises(StudyError, match="no losses of one text"):
        ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (10, 2.228), (63, 1.998)])
def test_quantiles_are_those_of_student_s_table(freedom: int, quantile: float) -> None:
    assert student_quantile(0.95, freedom) == pytest.approx(quantile, abs=5e-4)


@given(st.integers(1, 5000))
def test_blocks_hold_every_window_and_differ_by_one_at_most(n_windows: int) -> None:
    starts = block_starts(n_windows)
    assert starts[0] == 0
    assert len(starts) == min(n_windows, MAX_BLOCKS)
    sizes = np.diff([*starts, n_windows])
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=70))
def test_floats_and_their_text_are_inverses(values: list[float]) -> None:
    text = pack_floats(values)
    assert (() if text is None else unpack_floats(text)) == tuple(values)


@pytest.mark.parametrize("text", ["!", "AAA=", "AAAAAAA="])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="losses by block"):
        unpack_floats(text)
