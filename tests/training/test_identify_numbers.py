"""Numbers without a trace: found, a question, or named as what scripts have; never rounded without a word."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pgpack.errors import DataError
from pgpack.models.evidence import evidence_lines
from pgtrain.identify import identify
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import tensor_shapes
from tests.training.test_identify import BASE, Oracle


@dataclass
class Capped(Oracle):
    """It loses more the further the cap is, by ratio, from its own: as the spread of differences foretells."""

    cap: float = 30.0
    per_ratio: float = 0.5

    def nats(self, config: GPTConfig, window: int, first: int, last: int) -> np.ndarray:
        away = self.per_ratio * np.log(config.logit_softcap / self.cap)
        same = replace(config, logit_softcap=self.truth.logit_softcap)
        rough = np.random.default_rng(1).normal(0, 1, self.n_tokens)[first:last]
        return super().nats(same, window, first, last) + away * rough + 0.55 * away**2 / 2


@pytest.mark.parametrize("cap", [12.2, 24.5])
def test_a_number_between_those_that_are_tried_is_a_question(cap: float) -> None:
    """Never rounded to the next without a word: neither to an unusual one nor to the usual."""
    with pytest.raises(DataError, match=r"--set logit_softcap=VALUE"):
        identify(tensor_shapes(BASE), Capped(BASE, n_tokens=65_536, cap=cap), None, 64)


@pytest.mark.parametrize("cap", [10.0, 15.0, 30.0])
def test_a_number_that_is_tried_is_found_beside_those_between(cap: float) -> None:
    found = identify(tensor_shapes(BASE), Capped(BASE, n_tokens=65_536, cap=cap, per_ratio=3.0), None, 64)
    assert found.config.logit_softcap == cap


@pytest.mark.parametrize("cap", [12.0, 14.0, 15.0, 20.0])
def test_an_unusual_number_that_the_text_does_not_tell_from_the_next_is_a_question(cap: float) -> None:
    """14 and 15 lose alike, and no public script has either: nothing is rounded to what happens to be tried."""
    with pytest.raises(DataError, match=r"logit_softcap=\S+ \d.*--set logit_softcap=VALUE"):
        identify(tensor_shapes(BASE), Capped(BASE, n_tokens=65_536, cap=cap, per_ratio=1.0), None, 64)


def test_a_number_that_reads_best_far_from_the_usual_one_is_a_question() -> None:
    """Its optimum lies off 30 by more than noise, though less than half way to the next that is tried."""
    with pytest.raises(DataError, match=r"--set logit_softcap=VALUE"):
        identify(tensor_shapes(BASE), Capped(BASE, n_tokens=65_536, cap=26.5, per_ratio=2.0), None, 64)
    found = identify(tensor_shapes(BASE), Capped(BASE, n_tokens=65_536, cap=29.5, per_ratio=0.5), None, 64)
    assert {each.field: each.by for each in found.evidence}["logit_softcap"] == "usage"


def test_what_only_usage_tells_is_said() -> None:
    """A model whose logits are small hardly reads its cap: the usual one is taken, and it is said that it is."""
    found = identify(tensor_shapes(BASE), Capped(BASE, n_tokens=65_536, cap=30.0, per_ratio=0.005), None, 64)
    by = {each.field: each.by for each in found.evidence}
    assert (by["logit_softcap"], by["mlp_activation"]) == ("usage", "loss")
    assert "the text hardly tells, give it if yours differs: logit_softcap=30 (" in found.how
    assert "what public scripts have" in "\n".join(evidence_lines(json.loads(found.to_json())))
