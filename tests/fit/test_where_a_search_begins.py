"""Where the search for a trained artifact begins: finer, the more its untrained twin loses and drift takes off."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.fit import budget
from pgpack.fit.effort import Effort
from pgpack.measure import Measurer
from pgpack.progress import UNSEEN

BUDGET = 4000
N_PARAMS = 64 * 64


def begun(monkeypatch: pytest.MonkeyPatch, effort: Effort, kl: float | None) -> list[float]:
    """Where each dial begins, of an effort whose untrained artifact fills the budget at 0.5 and loses `kl`."""
    guesses: list[float] = []

    def turned(measurer: Measurer, n_bytes: int, family: budget.Family, *rest: Any) -> tuple[float, Any]:
        guesses.append(family.guess)
        return 0.5, SimpleNamespace(n_bytes=budget.FILL * n_bytes)

    def scored(measurer: Measurer, recipe: Any, label: str, artifact: Any, metric: Any) -> Any:
        return SimpleNamespace(loss=None if kl is None else SimpleNamespace(kl=kl))

    monkeypatch.setattr(budget, "turn_dial", turned)
    monkeypatch.setattr(budget, "_scored", scored)
    monkeypatch.setattr(budget, "_require_fisher", lambda *_: None)
    checkpoint = from_tensors({"w": np.ones((64, 64), np.float32)})
    measurer = cast(Measurer, SimpleNamespace(checkpoint=checkpoint))
    list(budget._searched(measurer, BUDGET, effort, 0.99, UNSEEN, None))
    return guesses


def test_drift_begins_finer_where_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    lossless, lossy = (begun(monkeypatch, Effort(states=8, drift=True), kl)[-1] for kl in (0.0, 0.8))
    octaves = np.log2(lossless / lossy)
    assert octaves == pytest.approx(8 * budget.FILL * BUDGET * budget.SHRUNK * 0.8 / N_PARAMS)
    assert lossless == pytest.approx(0.5 * budget.TRAINED_STEP)


@pytest.mark.parametrize("kl", [None, 0.8])
def test_without_drift_or_loss_nothing_is_allowed_for(monkeypatch: pytest.MonkeyPatch, kl: float | None) -> None:
    effort = Effort(states=8, tune=5) if kl else Effort(states=8, drift=True)
    assert begun(monkeypatch, effort, kl)[-1] == pytest.approx(0.5 * budget.TRAINED_STEP)
