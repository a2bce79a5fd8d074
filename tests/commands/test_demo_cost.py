"""`pgpack demo --dry-run` tells time and memory, as the commands that it runs would."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pgpack_cli.options.space import remembered_space
from pgpack_cli.verbs.demo import FAST, FULL, VOCABULARY, Scale, demo_cost

from pgpack.bench.costs import budget_cost, grid_cost, n_values
from pgpack.bench.rates import Rates
from pgpack.fit.effort import DEFAULT, LEVELS
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.presets import find_preset
from tests.commands.workshop import pgpack, succeed


@pytest.mark.parametrize("scale", [FULL, FAST], ids=["full", "fast"])
def test_the_sweep_of_a_demo_costs_what_the_prices_of_its_recipes_say(scale: Scale) -> None:
    start, rates = find_preset("demo").model, Rates()
    changed = {} if scale is FULL else {"num_layers": 2, "model_dim": 128}
    shapes = tensor_shapes(dataclasses.replace(start, vocab_size=VOCABULARY, **changed))
    recipes = [each.recipe for each in remembered_space(" ".join(scale.sweep)).candidates(shapes)]
    priced = grid_cost(recipes, shapes, rates, scale.max_tokens)
    if scale is FULL:  # the last recipe is tuned to the budget
        priced = priced.then(budget_cost(LEVELS[DEFAULT], shapes, rates, scale.max_tokens))
    coded = sum(priced.seconds[stage] for stage in ("quantize", "encode", "decode"))
    assert scale.coded * n_values(shapes) / rates.trellis == pytest.approx(coded, rel=0.1)
    assert scale.n_losses * scale.max_tokens * n_values(shapes) / rates.model == pytest.approx(
        priced.seconds["evaluate"]
    )
    assert demo_cost(scale, rates).seconds["pack"] == pytest.approx(coded, rel=0.1)


def test_a_dry_run_says_steps_time_and_memory(tmp_path: Path) -> None:
    said = succeed(pgpack("demo", "-o", tmp_path / "demo", "--dry-run"))
    *steps, cost = said.out.splitlines()
    assert [line.split()[:2] for line in steps[:3]] == [["pgtrain", "data"], ["pgtrain", "run"], ["pgpack", "sweep"]]
    assert all(word in cost for word in ("about", "train", "pack", "evaluate", "B of memory"))
    document = succeed(pgpack("demo", "-o", tmp_path / "demo", "--dry-run", "--json")).json
    assert document["cost"]["n_bytes"] > 10**8
    faster = succeed(pgpack("demo", "-o", tmp_path / "demo", "--fast", "--dry-run", "--json")).json
    assert faster["cost"]["seconds"] < document["cost"]["seconds"] / 3
    assert not (tmp_path / "demo").exists()
