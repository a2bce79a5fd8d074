"""The benchmark measures what it says: shares of the grid's frontier, and misses that are called so."""

from __future__ import annotations

from typing import Any

import pytest

from pgpack.study.trial import Trial
from pgpack.sweep.samplers.base import RandomSampler
from pgpack.sweep.samplers.space import SearchSpace, template_of
from tests.bench.search_cost import TEMPLATE, Grid, page, replay, replays

SPACE = SearchSpace((template_of(TEMPLATE),))


def row(number: int) -> Trial:
    """On one hyperbola, so that every recipe is on the frontier."""
    recipe = SPACE.candidate(SPACE.point(number)).recipe
    return Trial(
        key=f"{number}", recipe=str(recipe), recipe_digest=recipe.digest, status="ok", checkpoint_digest="c",
        evaluator_digest="e", created="", n_bytes=1000 + number, bpb=2 + 1 / (1 + number), kl=1 / (1 + number),
    )  # fmt: skip


GRID = Grid([row(number) for number in range(len(SPACE))])


def test_the_grid_has_216_different_recipes_and_is_worth_all_of_itself() -> None:
    assert len(GRID.by_recipe) == len(SPACE) == 216
    assert GRID.found(GRID.trials) == {"kl": 1.0, "bpb": 1.0}
    assert GRID.share(GRID.trials[:1], "kl") == 0, "an end of the frontier alone spans no area"
    assert 0 < GRID.share(GRID.trials[::5], "kl") < 1


def test_a_replay_is_what_the_sampler_asked_for() -> None:
    asked = replay(RandomSampler(SPACE, 20, 1), GRID)
    assert [trial.key for trial in asked] == [row(index).key for index in map(_number, SPACE.sample(20, 1))]
    table = replays(GRID, SPACE)
    assert table["surrogate"]["0.20"]["n_trials"] == 43
    assert all(cell["kl"]["worst"] <= cell["kl"]["median"] <= 1 for by in table.values() for cell in by.values())


def _number(point: tuple[int, ...]) -> int:
    return next(number for number in range(len(SPACE)) if SPACE.point(number) == point)


@pytest.mark.parametrize(
    ("share", "found", "word"), [(0.2, 0.99, "met"), (0.21, 1.0, "missed"), (0.1, 0.98, "missed")]
)
def test_a_missed_goal_is_said(share: float, found: float, word: str) -> None:
    cost = {"processor_s": 100.0, "wall_s": 100.0}
    run: dict[str, Any] = {"n_full": 9, "n_partial": 0, "cost": cost, "cost_share": share}
    document = {
        "machine": {"cpu": "cpu", "cores": 2, "system": "Linux", "versions": {"python": "3.11"}},
        "checkpoint": "m", "n_params": 9, "max_tokens": 9, "n_grid": 9, "n_front": {"kl": 3, "bpb": 3}, "seeds": 1,
        "grid_cost": cost, "runs": {"surrogate": {**run, "found": {"kl": found, "bpb": found}}}, "replays": {},
    }  # fmt: skip
    (line,) = [line for line in page(document).splitlines() if line.startswith("| surrogate")]
    assert (" met " in line) == (word == "met")
    assert ("missed *(negative)*" in line) == (word == "missed")
