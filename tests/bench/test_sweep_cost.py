"""The benchmark measures what it says: 100 recipes, a sample that stands for all of them, its own goal."""

from __future__ import annotations

from typing import Any

import pytest

from pgpack.recipe.recipe import parse_recipe
from tests.bench.sweep_cost import CODINGS, ELEVENTH, QUANTIZERS, Spent, document_of, markdown, recipe, sample, total


def test_a_hundred_different_recipes_and_ten_more() -> None:
    texts = [recipe(quantizer, coding) for quantizer in QUANTIZERS for coding in (*CODINGS, ELEVENTH)]
    assert len({parse_recipe(text).digest for text in texts}) == len(texts) == 110


def test_the_sample_has_every_quantizer_and_every_coding_once() -> None:
    """Costs that add up, however they differ: ten times the sample is the whole, to the last digit."""
    of_quantizer = {quantizer: 3**i for i, quantizer in enumerate(QUANTIZERS)}
    of_coding = {coding: 7**i for i, coding in enumerate(CODINGS)}
    cost = {recipe(q, c): Spent(of_quantizer[q] + of_coding[c], 0) for q in QUANTIZERS for c in CODINGS}
    assert total([cost[text] for text in sample()], len(CODINGS)) == total(list(cost.values()))


@pytest.mark.parametrize(("sweep_s", "word"), [(149.0, "met"), (151.0, "missed")])
def test_a_missed_goal_is_said(sweep_s: float, word: str) -> None:
    about: dict[str, Any] = {
        "checkpoint_n_bytes": 8_000_000,
        "max_tokens": 8192,
        "machine": {"cpu": "cpu", "cores": 2, "system": "Linux", "versions": {"python": "3.11"}},
        "load": [0.1, 1.2],
    }
    costs = {name: Spent(1.0, 1.0) for name in ("second_study", "ten_more_recipes")}
    document = document_of(about, {**costs, "sweep": Spent(sweep_s, 1.0)}, [Spent(10.0, 20.0)] * 10)
    assert document["share"] == pytest.approx(sweep_s / 1000)
    page = markdown(document)
    assert f"on their own: {word}." in page
    assert f"| {sweep_s:.0f} | {sweep_s / 10:.1f} % |" in page
    assert "clip=8)\\|rans` | 10.0 |" in page
