"""Laws of comparing trials: a trial differs from itself by 0 +- 0, pairing narrows, nothing is made up."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.loss.intervals import bpb_difference, pack_floats, student_quantile, unpack_floats
from pgpack.study.comparison import decimals, difference_text, half_width, half_width_text, paired_difference
from pgpack.study.frontier import pareto
from pgpack.study.trial import Trial
from tests.synthetic_study import BLOCK_BYTES, synthetic_trials

TRIALS = [trial for trial in synthetic_trials() if trial.ok]
FRONT = pareto(TRIALS)


def blocks_of(trial: Trial) -> tuple[float, ...]:
    return unpack_floats(trial.block_excess or "")


@pytest.mark.parametrize("trial", TRIALS[::9])
def test_a_trial_differs_from_itself_by_nothing_for_sure(trial: Trial) -> None:
    found = paired_difference(trial, trial, BLOCK_BYTES)
    assert found is not None
    assert (found.value, found.half_width()) == (0, 0)


def test_the_difference_is_that_of_the_losses_and_turns_its_sign() -> None:
    for a, b in itertools.pairwise(TRIALS):
        found, back = paired_difference(a, b, BLOCK_BYTES), paired_difference(b, a, BLOCK_BYTES)
        assert found is not None
        assert back is not None
        assert found.value == pytest.approx((a.bpb or 0) - (b.bpb or 0), abs=1e-6)
        assert (back.value, back.standard_error) == (-found.value, found.standard_error)


def test_the_half_width_is_that_of_the_paired_interval_to_the_fp32_model() -> None:
    for trial in TRIALS:
        expected = bpb_difference(blocks_of(trial), [0.0] * len(BLOCK_BYTES), BLOCK_BYTES).half_width()
        assert half_width(trial, "bpb") == pytest.approx(expected, rel=1e-5)
        assert half_width(trial, "kl") == pytest.approx((trial.kl_se or 0) * student_quantile(0.95, 31))


def test_pairing_narrows_the_interval_of_neighbours_on_blocks_that_are_hard_for_both() -> None:
    for a, b in itertools.pairwise(FRONT):
        found, widths = paired_difference(a, b, BLOCK_BYTES), [half_width(trial, "bpb") for trial in (a, b)]
        assert found is not None
        assert (found.half_width() or 0) < 0.9 * math.hypot(*(width or 0 for width in widths))


@pytest.mark.parametrize(
    "changes",
    [
        {"block_excess": None},
        {"block_excess": pack_floats([1.0] * 31)},
        {"checkpoint_digest": "another"},
        {"evaluator_digest": "another"},
        {"status": "failed"},
    ],
)
def test_rows_that_do_not_compare_have_no_difference(changes: dict[str, str | None]) -> None:
    trial = dataclasses.replace(TRIALS[0], **changes)
    assert paired_difference(trial, TRIALS[1], BLOCK_BYTES) is None
    assert paired_difference(TRIALS[1], trial, BLOCK_BYTES) is None
    assert paired_difference(TRIALS[0], TRIALS[1], ()) is None, "the card of an older study"


@pytest.mark.parametrize(
    "changes",
    [
        {"bpb_se": None, "kl_se": None},
        {"block_excess": None},
        {"block_excess": pack_floats([1.0])},
        {"status": "failed"},
    ],
)
def test_a_row_without_errors_or_of_one_block_has_no_interval(changes: dict[str, str | None]) -> None:
    trial = dataclasses.replace(TRIALS[0], **changes)
    assert half_width(trial, "bpb") is None
    assert half_width(trial, "kl") is None
    assert half_width_text(half_width(trial, "bpb")) == "-"


@given(st.floats(1e-7, 1e3))
def test_a_half_width_is_shown_with_two_digits_at_least(width: float) -> None:
    shown = float(half_width_text(width))
    assert shown == pytest.approx(width, rel=0.051, abs=0.5 * 10.0 ** -decimals(width) if width < 1e-6 else 0)
    assert float(half_width_text(width, 5e-5)) == pytest.approx(width, rel=0.051)


def test_differences_and_half_widths_have_the_same_decimals() -> None:
    assert difference_text(0.0123456, 0.0004321) == "+0.01235 +-0.00043"
    assert difference_text(-0.5, 0.125) == "-0.5000 +-0.1250"
    assert difference_text(0.0, 0.0) == "+0.0000 +-0.0000"
    assert difference_text(0.0123456, None) == "+0.0123"
    assert np.isclose(float(half_width_text(3e-5)), 3e-5)
