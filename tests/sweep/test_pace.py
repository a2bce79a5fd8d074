"""Laws of the time left: exact where stages cost what they cost, and never blind to work that is yet to begin."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from pgpack.bench.pricing import price_of
from pgpack.bench.rates import Rates
from pgpack.recipe.recipe import parse_recipe
from pgpack.recipe.spaces import Candidate
from pgpack.study.trial import Trial
from pgpack.sweep.executors.dispatch import shared_work
from pgpack.sweep.executors.jobs import Job, Setting
from pgpack.sweep.pace import STAGES, Pace

TIMES = Path(__file__).with_name("demo_times.csv")
BLOCK = {
    **{f"attn.{name}.weight": (288, 288) for name in ("c_k", "c_q", "c_v", "proj")},
    **{"attn.q_gain": (4,), "attn_scale": (288,), "mlp_scale": (288,), "resid_mix": (2, 288)},
    **{"mlp.fc.weight": (864, 288), "mlp.proj.weight": (288, 864)},
}
DEMO = {
    "tok_emb.weight": (1024, 288),
    "skip_weights": (1, 288),
    **{f"blocks.{i}.{name}": shape for i in range(2) for name, shape in BLOCK.items()},
}
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


def test_after_a_tenth_of_the_work_the_time_left_is_right_within_30_percent_whatever_comes_first() -> None:
    """Quantizers and coders that differ a hundredfold in cost, the cheap ones first; prices that are wrong by a
    factor of their own in every stage, as those of another machine are."""
    quantizers = {"rtn(bits=4)": 0.5, "gptq(bits=4)": 10.0, "tcq(step=0.001)": 25.0}
    coders = {"rans": 1.0, "zlib": 3.0, "brotli": 60.0}
    jobs = [
        Job(Candidate(parse_recipe(f"numel<={n}=cast; *={quantizer}|{coder}")))
        for quantizer in quantizers
        for n in range(8)
        for coder in coders
    ]

    def cost(job: Job, follows: bool) -> dict[str, float]:
        text = str(job.candidate.recipe)
        quantize = next(seconds for name, seconds in quantizers.items() if name.partition("(")[0] in text)
        encode = next(seconds for name, seconds in coders.items() if text.endswith(name))
        return {"quantize_s": 0.0 if follows else quantize, "encode_s": encode, "eval_s": 0.0 if follows else 8.0}

    wrong = {"quantize_s": 0.3, "encode_s": 0.25, "eval_s": 0.4}
    pace = Pace(jobs, price=lambda job, follows: {k: wrong[k] * v for k, v in cost(job, follows).items()})
    total, done, begun = 0.0, 0.0, set()
    costs = []
    for job in jobs:
        work = shared_work(job)
        costs.append(cost(job, work in begun))
        begun.add(work)
    total = sum(sum(each.values()) for each in costs)
    for job, each in zip(jobs, costs, strict=True):
        pace.saw(
            dataclasses.replace(row(job, each["quantize_s"], each["eval_s"]), encode_s=each["encode_s"], decode_s=0.0)
        )
        done += sum(each.values())
        if done >= total / 10:
            left = pace.left_s()
            assert left is not None
            assert abs(left - (total - done)) <= 0.3 * (total - done)
    assert pace.left_s() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("speed", [0.3, 1.0, 3.0])
def test_the_time_left_of_the_demo_is_right_within_30_percent_after_a_tenth(speed: float) -> None:
    """Seconds that its trials took on 2 cores (demo_times.csv), told to whatever machine was measured before."""
    with TIMES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    jobs = [Job(Candidate(parse_recipe(each["recipe"]))) for each in rows]
    rates = Rates()
    known = Rates(speed * rates.trellis, speed * rates.model, measured=True)
    pace = Pace(jobs, price=price_of(DEMO, 8192, known))
    spent = [{stage: float(each[stage]) for stage in STAGES} for each in rows]
    total, done = sum(sum(each.values()) for each in spent), 0.0
    for job, each in zip(jobs, spent, strict=True):
        pace.saw(dataclasses.replace(row(job, 0, 0), **each))
        done += sum(each.values())
        if total / 10 <= done < total:
            left = pace.left_s()
            assert left is not None
            assert abs(left - (total - done)) <= 0.3 * max(total - done, total / 10)
