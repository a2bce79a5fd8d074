"""Laws of recipes over several checkpoints: the worst size, the mean loss, and no point before all are measured."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.fit.every_seed import every_seed
from pgpack.loss.intervals import pack_floats, ratio, unpack_floats
from pgpack.measure import Measurer
from pgpack.recipe.recipe import parse_recipe
from pgpack.study.card import StudyCheckpoint, StudyMeta
from pgpack.study.frontier import pareto
from pgpack.study.seeds import Spread, across, together
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from tests.fronts import best_under
from tests.sweep_bench import ErrorOfWeights, matrix

BLOCK_BYTES = (400, 500, 600, 700)
META = StudyMeta(
    checkpoint="a.safetensors",
    checkpoint_digest="a",
    evaluator_digest="e",
    pgpack_version="1",
    created="2026-01-02T03:04:05+00:00",
    fp32_bpb=2.0,
    fp32_nats=4.0,
    block_bytes=BLOCK_BYTES,
    others=(
        StudyCheckpoint(checkpoint="b.safetensors", checkpoint_digest="b", fp32_bpb=2.2, fp32_nats=4.4),
        StudyCheckpoint(checkpoint="c.safetensors", checkpoint_digest="c", fp32_bpb=2.4, fp32_nats=4.8),
    ),
)


def row(recipe: str, checkpoint: str, n_bytes: int, kl: float, error: str | None = None) -> Trial:
    excess = [kl * weight for weight in (1, 2, 3, 4 + ord(checkpoint) % 3)]
    return Trial(
        key=f"{recipe} {checkpoint}",
        recipe=recipe,
        recipe_digest=recipe,
        status="failed" if error else "ok",
        checkpoint_digest=checkpoint,
        evaluator_digest="e",
        created="now",
        n_bytes=None if error else n_bytes,
        bpb=None if error else 2 + kl,
        nats=None if error else 4 + kl,
        kl=None if error else kl,
        kl_se=None if error else kl / 10,
        bpb_se=None if error else kl / 20,
        block_excess=None if error else pack_floats(excess),
        quantize_s=1.0,
        error=error,
    )


def study(*rows: Trial, meta: StudyMeta = META) -> Study:
    return Study.of(Path("study"), meta, rows)


def seeds(recipe: str, sizes: tuple[int, ...], kls: tuple[float, ...]) -> tuple[Trial, ...]:
    return tuple(row(recipe, name, size, kl) for name, size, kl in zip("abc", sizes, kls, strict=True))


def test_a_point_has_the_largest_size_and_the_mean_loss() -> None:
    (found,) = study(*seeds("x", (10, 30, 20), (0.1, 0.2, 0.6))).merged.trials
    assert found.n_bytes == 30
    assert found.kl == pytest.approx(0.3)
    assert found.bpb == pytest.approx(2.3)
    assert found.quantize_s == 3
    assert found.weights_digest is None
    assert study().merged.meta.fp32_bpb == pytest.approx(2.2)


def test_its_error_is_that_of_the_mean_over_one_text_not_of_independent_texts() -> None:
    rows = seeds("x", (1, 1, 1), (0.1, 0.2, 0.6))
    found = together(rows, BLOCK_BYTES)
    blocks = [unpack_floats(each.block_excess or "") for each in rows]
    mean = [statistics.fmean(values) / math.log(2) for values in zip(*blocks, strict=True)]
    assert found.bpb_se == pytest.approx(ratio(mean, BLOCK_BYTES).standard_error)
    assert found.kl_se == pytest.approx(0.03), "of blocks that are not kept: as if they were one"
    assert together(rows, ()).bpb_se == pytest.approx(0.015)


def test_what_is_not_measured_everywhere_is_no_point_and_what_failed_once_failed() -> None:
    whole = seeds("x", (1, 2, 3), (0.3, 0.3, 0.3))
    broken = (row("y", "a", 1, 0.1), row("y", "b", 1, 0.1), row("y", "c", 1, 0.1, error="no memory"))
    points = study(*whole, *broken, row("z", "a", 1, 0.0), row("z", "b", 1, 0.0)).merged.trials
    assert [(each.recipe, each.status) for each in points] == [("x", "ok"), ("y", "failed")]
    assert points[1].error == "on 1 of 3 checkpoints: no memory"
    assert [each.n_bytes for each in across(META, (*whole, *broken))] == [Spread(2, 1, 1, 3), None]


def test_the_best_within_a_budget_fits_on_every_checkpoint() -> None:
    tight = seeds("lucky once", (90, 99, 101), (0.1, 0.1, 0.1))
    loose = seeds("fits always", (80, 85, 95), (0.2, 0.2, 0.2))
    found = best_under(study(*tight, *loose).merged.trials, 100, "kl")
    assert found is not None
    assert found.recipe == "fits always"


def test_a_study_of_one_checkpoint_is_shown_as_it_is() -> None:
    alone = study(row("x", "a", 1, 0.1), meta=dataclasses.replace(META, others=()))
    assert (alone.merged.meta, alone.merged.trials) == (alone.meta, alone.trials)


def test_of_two_rows_on_one_checkpoint_the_later_counts() -> None:
    rows = seeds("x", (1, 2, 3), (0.3, 0.3, 0.3))
    again = dataclasses.replace(row("x", "b", 9, 0.3), key="another calibration")
    assert [each.n_bytes for each in study(*rows, again).merged.trials] == [9]


@given(st.lists(st.tuples(*[st.integers(1, 99)] * 3, st.floats(0.01, 1)), min_size=1, max_size=8))
def test_no_point_is_better_than_the_worst_seed_allows(drawn: list[tuple[int, int, int, float]]) -> None:
    rows = [trial for n, (a, b, c, kl) in enumerate(drawn) for trial in seeds(f"{n}", (a, b, c), (kl, kl, kl))]
    for point in pareto(study(*rows).merged.trials, "kl"):
        sizes = [each.n_bytes or 0 for each in rows if each.recipe == point.recipe]
        assert point.n_bytes == max(sizes)
        assert not any(
            all((other.n_bytes or 0) < max(sizes) and (other.kl or 0) < (point.kl or 0) for other in group)
            for group in zip(*[iter(rows)] * 3, strict=True)
        )


def test_a_budget_is_fitted_to_the_checkpoint_whose_artifact_is_the_largest(tmp_path: Path) -> None:
    measurers = []
    for seed in (0, 1, 2):
        checkpoint = matrix(seed)
        measurers.append(Measurer(checkpoint, ErrorOfWeights(checkpoint, tmp_path, 0), lambda recipe: None))
    recipe = parse_recipe("ndim<=1=cast; *=rtn(bits=4)|rans")
    made = [measurer.pack(recipe) for measurer in measurers]
    largest = max(range(3), key=lambda i: made[i].n_bytes)
    assert len({artifact.n_bytes for artifact in made}) == 3
    every = every_seed(measurers)
    artifact = every.pack(recipe)
    assert artifact.data == made[largest].data
    assert every.evaluate(artifact) == measurers[largest].evaluate(made[largest])
    assert every_seed(measurers[:1]) is measurers[0]
