"""Matching a loss: the dial ends just below the target, whatever the law between dial and KL is."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.errors import PgpackError
from pgpack.fit.equal_loss import CLOSE, match_kl
from pgpack.loss.evaluator import BitsPerByte
from pgpack.measure import Measurer


def measurer(slope: float, scale: float, kls: bool = True) -> Measurer:
    """One whose KL is scale * step^slope and whose bytes fall with the step."""

    def pack(recipe: Any) -> Any:
        step = recipe.rules[-1].policy.quantizer.step
        return SimpleNamespace(step=step, n_bytes=int(1000 - 20 * math.log2(step)))

    def evaluate(artifact: Any) -> BitsPerByte:
        return BitsPerByte(1.0, 1.0, scale * artifact.step**slope if kls else None, 0, 0, 0.0)

    checkpoint = SimpleNamespace(n_params=10_000, stored_shapes={"blocks.0.mlp.fc.weight": (100, 100)})
    return cast("Measurer", SimpleNamespace(checkpoint=checkpoint, pack=pack, evaluate=evaluate))


@given(slope=st.floats(1.2, 3.5), scale=st.floats(10.0, 1e4), kl=st.floats(1e-3, 1e-2))
def test_the_kl_ends_just_below_the_target(slope: float, scale: float, kl: float) -> None:
    found = match_kl(measurer(slope, scale), kl)
    assert found.loss.kl is not None
    assert CLOSE * kl * 0.999 <= found.loss.kl <= kl


def test_what_cannot_be_matched_is_said() -> None:
    with pytest.raises(PgpackError, match="checkpoint's own"):
        match_kl(measurer(2.0, 1e3), 0.0)
    with pytest.raises(PgpackError, match="needs text"):
        match_kl(measurer(2.0, 1e3, kls=False), 1e-3)
    with pytest.raises(PgpackError, match="no step was found"):
        match_kl(measurer(0.0, 1e3), 1e-3)
