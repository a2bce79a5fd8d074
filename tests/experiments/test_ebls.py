"""The study of #433: its tables follow from its results, and its quantities are what their names say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.ebls.branches import effective_rank, of_places, pattern_agreement
from experiments.ebls.gap import GROUPS, floor_under, int6
from experiments.replication.pages import EXPERIMENTS
from experiments.replication.plan import Study
from experiments.replication.results import Measures
from experiments.replication.rows import read_rows
from pgpack.recipe.recipe import parse_recipe
from pgtrain.model.gpt import GPT
from pgtrain.model.tensor_table import count_parameters
from pgtrain.training.optim import frozen_names

FOLDER = EXPERIMENTS / "ebls"


@pytest.fixture(scope="module")
def measures() -> Measures:
    return Measures.load(FOLDER / "results" / "measures.json")


@pytest.mark.parametrize("group", ["gap", "gap-no-qat"])
def test_the_parts_of_the_gap_add_up(group: str, measures: Measures) -> None:
    named = {
        part: np.array(measures[f"{group}.{part}"].values) for part in ("swap", "int6", "floor", "rest", "total")
    }
    assert sum(named[part] for part in ("swap", "int6", "floor", "rest")) == pytest.approx(named["total"], abs=1e-6)


def test_summaries_follow_from_the_rows(measures: Measures) -> None:
    rows = read_rows(FOLDER / "results" / "branches.csv")
    last = max(int(row["step"]) for row in rows)
    final = [row for row in rows if row["run"] == "ebls" and row["step"] == last]
    for seed in (1, 2, 3):
        found = of_places([row for row in final if row["seed"] == seed])
        for name, value in found.items():
            assert measures.by_seed[f"ebls.{name}"][seed] == pytest.approx(value, rel=1e-4), name
    agreement = {seed: pytest.approx(value, abs=1e-4) for seed, value in pattern_agreement(final).items()}
    assert measures.by_seed["ebls.gamma_agreement"] == agreement


def test_effective_rank_counts_equal_singular_values() -> None:
    assert effective_rank(np.diag([3.0, 3.0, 3.0, 0.0]).astype(np.float32)) == pytest.approx(3.0)
    assert effective_rank(np.outer([1.0, 2.0], [3.0, 4.0]).astype(np.float32)) == pytest.approx(1.0)
    assert effective_rank(np.zeros((3, 3), np.float32)) == 0.0


def test_recipes_differ_only_in_the_floor() -> None:
    floored, free = (str(parse_recipe(int6(floor))) for floor in (True, False))
    assert floored != free
    assert free.replace("scale_floor=false", "scale_floor=true") == floored
    for group, glob in GROUPS.items():
        rules = str(parse_recipe(floor_under(group)))
        assert rules.replace(f"{glob}=rtn_percentile(bits=6,percentile=99.99984,scale_floor=true); ", "") == free, (
            rules
        )


def test_every_model_of_the_full_scale_can_be_built() -> None:
    study = Study.load(FOLDER)
    for name in study.purposes:
        run = study.run(name, 1, "full")
        with torch.device("meta"):
            parameters = dict(GPT(run.model).named_parameters())
        assert sum(parameter.numel() for parameter in parameters.values()) == count_parameters(run.model)
        frozen = frozen_names(run.training, list(parameters))
        assert bool(frozen) == (name in ("mute", "fixed-gamma", "frozen-scales"))
        assert run.snapshots[-1] == run.training.steps
