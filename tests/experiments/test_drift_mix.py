"""The mix of drifted and clean statistics: one mix is drift itself; of several that which errs least is taken."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.rate_distortion import drift_mix
from experiments.rate_distortion.drift_mix import Searching
from pgpack.calibration.observe import observe
from pgpack.recipe.applied import apply
from pgpack.refine.drift import Drifting
from pgpack.tensors.record import Record
from tests.refine.test_drift import RECIPE, SEQ, build, checkpoint_of, draw, net


def quantized(kind: type[Drifting]) -> dict[str, Record]:
    model, tokens = net(), draw(3)
    checkpoint = checkpoint_of(model)
    drifting = kind.over(tokens, SEQ, build)
    names = list(checkpoint.stored_shapes)
    applied = apply(RECIPE, checkpoint.stored_shapes)
    return drifting.quantize(checkpoint, applied, observe(model, tokens, SEQ, token_digest="x"), names)


def same(one: dict[str, Record], other: dict[str, Record]) -> bool:
    return all(np.array_equal(one[name].dequantize(), other[name].dequantize()) for name in one)


def test_all_the_way_everywhere_is_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_mix, "MIXES", ((1.0, 0.0),))
    assert same(quantized(Searching), quantized(Drifting))


def test_drift_is_followed_where_that_errs_less_on_other_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_mix, "MIXES", ((0.0, 0.0),))
    left = quantized(Searching)
    monkeypatch.setattr(drift_mix, "MIXES", ((0.0, 0.0), (1.0, 0.0)))
    searched = quantized(Searching)
    assert not same(searched, left)
