"""The dial of effort: levels are recipes that say what they spend, and each spends no less than the one before."""

from __future__ import annotations

import pytest

from pgpack.fit.budget import engine_recipe
from pgpack.fit.effort import DEFAULT, LEVELS, Effort
from pgpack.recipe.dials import trellis_recipe
from pgpack.recipe.directives import Tune
from pgpack.recipe.recipe import parse_recipe

SHAPES = {"blocks.0.w": (64, 64), "blocks.0.gain": (64,)}


def test_the_default_is_the_plain_recipe_of_the_engine() -> None:
    assert engine_recipe(LEVELS[DEFAULT], 1e-3, SHAPES) == trellis_recipe(1e-3, 64, SHAPES)
    assert LEVELS[DEFAULT].label == "trellis, 64 states"


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_a_recipe_tells_all_that_its_level_spends(level: int) -> None:
    effort = LEVELS[level]
    recipe = parse_recipe(str(engine_recipe(effort, 1e-3, SHAPES)))
    assert recipe.compensate.count == effort.compensate
    assert recipe.tune.count == effort.tune
    assert recipe.drift.follows == effort.drift
    assert recipe.calib.count == (effort.tokens or recipe.calib.count)
    assert f"states={effort.states})" in str(recipe)
    assert (f"group={effort.group}" in str(recipe)) == bool(effort.group)


def test_levels_grow_from_no_text() -> None:
    tokens = [32_768 if effort.tokens is None else effort.tokens for effort in LEVELS]
    assert [effort.calib for effort in LEVELS] == ["random", *[None] * 9]
    assert tokens == sorted(tokens)
    assert [effort.compensate for effort in LEVELS] == sorted(effort.compensate for effort in LEVELS)
    assert len(set(LEVELS)) == 10


def test_steps_that_are_given_take_the_place_of_the_level() -> None:
    assert LEVELS[9].trained_by(None, 0).tune == 0
    assert LEVELS[9].trained_by(None, 0).compensate == LEVELS[9].compensate
    assert LEVELS[DEFAULT].trained_by(5, None) == Effort(compensate=5, asked=frozenset({"compensate"}))
    assert LEVELS[6].trained_by(5, None).drift


def test_the_rough_stand_in_is_quick() -> None:
    for effort in LEVELS:
        assert effort.rough.states <= 8
        assert effort.rough.group == effort.rough.compensate == effort.rough.tune == effort.rough.drift == 0
        assert effort.rough.tokens == effort.tokens


def test_a_large_model_is_run_for_as_long_as_an_hour_allows() -> None:
    highest = LEVELS[9]
    assert highest.bounded(2_000_000) == highest
    assert highest.bounded(36_000_000) == Effort(tokens=65_536, drift=True, tune=91)
    assert highest.bounded(134_515_008) == Effort(tokens=32_768, drift=True, tune=24)
    assert highest.bounded(7_000_000_000) == Effort(tokens=32_768, drift=True)
    assert LEVELS[4].bounded(134_515_008) == LEVELS[3]  # rows by 32 lose there
    assert LEVELS[1].bounded(7_000_000_000) == LEVELS[1]
    for n_params in (10**5, 10**7, 10**9):
        spent = [effort.bounded(n_params) for effort in LEVELS]
        assert [effort.tune for effort in spent] == sorted(effort.tune for effort in spent)
        assert [effort.compensate for effort in spent] == sorted(effort.compensate for effort in spent)
    assert highest.bounded(33_000_000) == Effort(tokens=131_072, group=32, drift=True, compensate=100)
    assert highest.bounded(33_100_000).compensate == 0  # too few steps: they tune


def test_steps_that_somebody_asked_for_are_not_bounded() -> None:
    both = LEVELS[9].trained_by(None, 500).bounded(10**9)
    assert (both.compensate, both.tune) == (0, 500)
    assert LEVELS[9].trained_by(20, None).bounded(10**9).compensate == 20
    assert LEVELS[9].trained_by(0, None).bounded(10**9).tune == 0
    assert LEVELS[9].trained_by(None, None).bounded(10**9).tune == 3


def test_few_steps_of_tuning_move_no_exponents() -> None:
    few, many = (engine_recipe(Effort(tune=count), 1e-3, SHAPES).tune for count in (99, 100))
    assert (few.rows, few.columns, few.count) == (0, 0, 99)
    assert many == Tune(count=100)
