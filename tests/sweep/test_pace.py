"""Laws of the time left: exact where stages cost what they cost, and never blind to work that is yet to begin."""

from __future__ import annotations

import pytest

from pgpack.recipe.recipe import parse_recipe
from pgpack.recipe.spaces import Candidate
from pgpack.study.trial import Trial
from pgpack.sweep.executors.jobs import Job, Setting
from pgpack.sweep.pace import Pace

JOBS = [
    Job(Candidate(parse_recipe(f"*=rtn(bits={bits})|{coding}"))) for bits in (3, 4, 5) for coding in ("zlib", "rans")
]


def row(job: Job, quantize_s: float, eval_s: float, failed: bool = False) -> Trial:
    recipe = job.candidate.recipe
    return Trial(
        key=recipe.digest,
        recipe=str(recipe),
        recipe_digest=recipe.digest,
        status="failed" if failed else "ok",
        checkpoint_digest="c",
        evaluator_digest="e",
        created="now",
        n_bytes=1,
        bpb=1.0,
        quantize_s=quantize_s,
        encode_s=2.0,
        decode_s=1.0,
        eval_s=eval_s,
    )


def test_first_trials_of_a_quantization_are_told_from_those_that_follow() -> None:
    pace = Pace(JOBS)
    assert pace.left_s() is None
    pace.saw(row(JOBS[0], 10, 5))
    assert pace.left_s() == pytest.approx(5 * 18), "nothing that follows was seen yet"
    pace.saw(row(JOBS[1], 0, 0))
    assert pace.left_s() == pytest.approx(2 * 18 + 2 * 3)
    pace.saw(row(JOBS[2], 10, 5))
    assert pace.left_s() == pytest.approx(1 * 18 + 2 * 3)
    assert pace.n_left == 3


def test_workers_share_what_is_left_and_one_trial_is_never_shared() -> None:
    pace = Pace(JOBS, n_workers=4)
    for job in JOBS[:2]:
        pace.saw(row(job, 10, 5))
    assert pace.left_s() == pytest.approx((2 * 18 + 2 * 18) / 4)
    for job in JOBS[2:5]:
        pace.saw(row(job, 10, 5))
    assert pace.left_s() == pytest.approx(18)


def test_failed_trials_and_strangers_count_but_cost_nothing() -> None:
    pace = Pace(JOBS)
    pace.saw(row(JOBS[0], 99, 99, failed=True))
    assert (pace.n_left, pace.left_s()) == (5, None)
    pace.saw(row(Job(Candidate(parse_recipe("*=cast|raw"))), 99, 99))
    assert (pace.n_left, pace.left_s()) == (5, None)
    pace.saw(row(JOBS[0], 1, 1))
    assert pace.n_left == 5, "each once"


def test_what_a_search_has_yet_to_ask_for_costs_as_much_as_what_begins_anew() -> None:
    pace = Pace([], n_unknown=8)
    assert (pace.n_left, pace.left_s()) == (8, None)
    pace.expect(JOBS[:2], n_spared=3)
    assert pace.n_left == 5, "two that were asked for, three that were not"
    for job in JOBS[:2]:
        pace.saw(row(job, 10, 5))
    assert pace.left_s() == pytest.approx(3 * 18)
    pace.expect(JOBS[2:4], n_spared=0)
    assert pace.left_s() == pytest.approx(1 * 18 + 18 + 18)
    pace.end()
    assert pace.n_left == 2
    pace.expect(JOBS, n_spared=9)
    assert pace.n_left == 8, "more than was announced"


def test_one_recipe_on_several_checkpoints_is_several_trials() -> None:
    pace = Pace([Job(JOBS[0].candidate, Setting(number)) for number in range(3)])
    for left in (2, 1, 0, 0):
        pace.saw(row(JOBS[0], 10, 5))
        assert pace.n_left == left
