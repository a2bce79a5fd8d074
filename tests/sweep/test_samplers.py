"""Laws of samplers: plain recipes, none twice, the same again when told the same, and a frontier for few trials."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pgpack.errors import RecipeError
from pgpack.study.frontier import Metric, hypervolume, pareto_indices
from pgpack.study.trial import Trial
from pgpack.sweep.samplers.base import Batch, RandomSampler, Sampler, objectives, search
from pgpack.sweep.samplers.halving import HalvingSampler, rungs, select
from pgpack.sweep.samplers.ladder import LadderSampler
from pgpack.sweep.samplers.optuna_samplers import OptunaSampler
from pgpack.sweep.samplers.space import Dimension, SearchSpace, joint_space, template_of
from pgpack.sweep.samplers.surrogate import SurrogateSampler

TEMPLATE = "tok*=gptq(bits=8,clip={14,20,28,41,57,83})|rans; *=gptq(bits=8,clip={28,41,57,83,114,159})|{rans,zlib}"
TENSORS = {"tok_emb.weight": (64, 32), "blocks.0.mlp.fc.weight": (96, 32)}
Answer = Callable[[Batch], list[Trial]]


def space() -> SearchSpace:
    return SearchSpace((template_of(TEMPLATE),))


def measured(recipe: str, share: float) -> Trial:
    """Bytes and loss as a model has them: each rule adds its own, a worse coder multiplies, short text is noisy."""
    dials = [float(x) for x in re.findall(r"(?:clip|step)=([\d.e-]+)", recipe)]
    n_bytes = sum(1e5 * w * (9 - math.log2(d / min(14, d))) for d, w in zip(dials, (1, 2), strict=False))
    kl = sum(1e-6 * w * d**2 for d, w in zip(dials, (2, 1), strict=False))
    noise = 1 + (0.1 * math.sin(sum(recipe.encode())) if share < 1 else 0)
    return Trial(
        key=f"{share} {recipe}", recipe=recipe, recipe_digest=recipe, status="ok", checkpoint_digest="c",
        evaluator_digest=str(share), created="", n_bytes=int(n_bytes * (1.05 if "zlib" in recipe else 1)),
        bpb=2 + kl * noise, nats=1.0, kl=kl * noise, text_share=share,
    )  # fmt: skip


def run(sampler: Sampler, measured: Callable[[str, float], Trial] = measured) -> list[Trial]:
    rows: list[Trial] = []

    def answer(batch: Batch) -> list[Trial]:
        found = [measured(str(each.recipe), batch.text_share) for each in batch.candidates]
        rows.extend(found)
        return found

    search(sampler, answer)
    return rows


SAMPLERS: dict[str, Callable[[int], Sampler]] = {
    "random": lambda seed: RandomSampler(space(), 16, seed),
    "halving": lambda seed: HalvingSampler(space(), 18, seed),
    "tpe": lambda seed: OptunaSampler(space(), 16, seed, "tpe"),
    "nsga2": lambda seed: OptunaSampler(space(), 16, seed, "nsga2"),
    "surrogate": lambda seed: SurrogateSampler(space(), 16, seed),
    "ladder": lambda seed: LadderSampler(TENSORS, 16),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_asks_for_nothing_twice_and_for_the_same_again_when_told_the_same(name: str) -> None:
    rows = run(SAMPLERS[name](7))
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys)
    assert keys == [row.key for row in run(SAMPLERS[name](7))]
    if name not in ("ladder", "halving"):
        assert len(keys) == 16


LED: dict[str, Callable[[Metric], Sampler]] = {
    "halving": lambda metric: HalvingSampler(space(), 18, 0, metric=metric),
    "tpe": lambda metric: OptunaSampler(space(), 16, 0, "tpe", metric),
    "nsga2": lambda metric: OptunaSampler(space(), 48, 0, "nsga2", metric),
    "surrogate": lambda metric: SurrogateSampler(space(), 24, 0, metric),
    "ladder": lambda metric: LadderSampler(TENSORS, 16, metric=metric),
}


@pytest.mark.parametrize("name", LED)
def test_a_search_is_led_by_the_metric_of_its_study_and_by_no_other_loss(name: str) -> None:
    def asked(metric: Metric, is_swapped: bool) -> list[str]:
        def seen(recipe: str, share: float) -> Trial:
            trial = measured(recipe, share)
            noise = 1.0 + zlib.crc32(recipe.encode()) % 97
            if step := re.search(r"step=([\d.e-]+)", recipe):
                trial = replace(trial, n_bytes=int(1e4 * (20 - math.log2(float(step[1])))))
            return replace(trial, bpb=trial.kl, kl=noise) if is_swapped else replace(trial, bpb=noise)

        return [row.recipe for row in run(LED[name](metric), seen)]

    assert asked("bpb", is_swapped=True) == asked("kl", is_swapped=False)
    assert asked("kl", is_swapped=True) != asked("kl", is_swapped=False)


@pytest.mark.parametrize("name", ["tpe", "nsga2", "surrogate", "random"])
def test_a_search_with_room_for_all_measures_every_point_once(name: str) -> None:
    small = SearchSpace((template_of("*=rtn(bits={4,5,6})|{rans,zlib}"),))
    samplers: dict[str, Sampler] = {
        "random": RandomSampler(small, 50, 0),
        "surrogate": SurrogateSampler(small, 50, 0),
        **{each: OptunaSampler(small, 50, 0, each) for each in ("tpe", "nsga2")},
    }
    assert len({row.recipe for row in run(samplers[name])}) == 6


def test_the_surrogate_leaves_less_than_half_of_what_random_points_leave() -> None:
    points = np.array([objectives(row) for row in run(RandomSampler(space(), 72, 0))])
    corner = tuple(points[pareto_indices(points)].max(0) + 0.05)

    def missed(sampler: Sampler) -> float:
        found = np.array([objectives(row) for row in run(sampler)])
        return hypervolume(points, corner) - hypervolume(found, corner)

    drawn = [missed(RandomSampler(space(), 14, seed)) for seed in range(10)]
    assert missed(SurrogateSampler(space(), 14, 0)) < 0.5 * float(np.mean(drawn))


def test_halving_keeps_a_third_of_each_rung_and_ends_on_the_full_text() -> None:
    rows = run(HalvingSampler(space(), 27, 0))
    shares = [row.text_share for row in rows]
    assert [shares.count(share) for share in (1 / 16, 1 / 4, 1.0)] == [27, 9, 3]
    assert not any(row.on_full_text for row in rows[:36])


def test_rungs_with_too_little_text_are_left_out() -> None:
    assert rungs(4) == (1.0,)
    assert rungs(32) == (1 / 4, 1.0)
    assert rungs(128) == (1 / 16, 1 / 4, 1.0)


def test_selection_takes_whole_fronts_then_the_ends_of_the_next() -> None:
    points = np.array([[1, 3], [2, 2], [3, 1], [2, 4], [3, 3], [3.1, 2.9], [4, 2], [9, 9]], dtype=float)
    assert set(select(points, 3)) == {0, 1, 2}
    assert set(select(points, 5)) == {0, 1, 2, 3, 6}
    assert set(select(points, 20)) == set(range(8))


def test_points_are_numbered_without_gaps_and_numbers_are_sorted() -> None:
    found = {space().point(i) for i in range(len(space()))}
    assert len(found) == len(space()) == 72
    assert Dimension.of("clip", ["20", "8", "12.5", "8"]).values == ("8", "12.5", "20")
    assert Dimension.of("coder", ["rans", "zlib"]).positions is None


def test_the_joint_space_turns_embedding_and_matrix_dials_apart() -> None:
    joint = joint_space(TENSORS)
    recipe = str(joint.candidate((0, 0, 9)).recipe)
    assert "step=2e-05" in recipe
    assert "step=0.00125" in recipe
    assert len(joint) == 10 * 10 + 8 * 8 * 2


def test_a_point_that_is_no_recipe_says_so() -> None:
    with pytest.raises(RecipeError):
        SearchSpace((template_of("*={rtn,nonsense}|rans"),)).candidate((0, 1))
