"""No dial and no matrix leads over a cliff: whatever columns, rows and scales are, `tcq` gives finite weights and
symbols that its coder takes, and a finer step costs bytes and loses less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np
import pytest

from pgpack.codecs.rans.scaled import RansScaled
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.tcq import Tcq

ROWS, COLS = 48, 40
STEPS = 10.0 ** np.arange(-13, 4, 2.0)
Hazard = Callable[[np.ndarray, np.ndarray, np.ndarray], object]  # changes weight, inputs and Fisher weights in place


def matrix(hazard: Hazard | None = None, seed: int = 0) -> QuantizerInput:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((ROWS, COLS)) * 0.05
    inputs = rng.standard_normal((COLS, 4 * COLS)) + 2 * rng.standard_normal((COLS, 3)) @ rng.standard_normal(
        (3, 4 * COLS)
    )
    fisher = np.exp(rng.normal(0, 1, ROWS))
    if hazard is not None:
        hazard(weight, inputs, fisher)
    moments = (inputs @ inputs.T / inputs.shape[1]).astype(np.float32)
    return QuantizerInput("w", weight.astype(np.float32), moments, fisher.astype(np.float32))


def scaled(which: int, at: object, by: float) -> Hazard:
    def change(*given: np.ndarray) -> None:
        given[which][at] *= by

    return change


def a_copy(weight: np.ndarray, inputs: np.ndarray, fisher: np.ndarray) -> None:
    inputs[3] = 1e6 * inputs[7]


def zeros(weight: np.ndarray, inputs: np.ndarray, fisher: np.ndarray) -> None:
    weight[3], weight[:, 5] = 0, 0


def small_and_dead(weight: np.ndarray, inputs: np.ndarray, fisher: np.ndarray) -> None:
    inputs *= 1e-5
    inputs[9] = 0


HAZARDS: dict[str, Hazard] = {
    "a column of huge second moment": scaled(1, 3, 1e4),
    "of one that swamps all others": scaled(1, 3, 1e8),
    "a huge column that copies a small one": a_copy,
    "a dead column": scaled(1, 9, 0),
    "a dead column among small ones": small_and_dead,
    "nothing ever fires": scaled(1, slice(None), 0),
    "rows and columns of zero": zeros,
    "zeros alone": scaled(0, slice(None), 0),
    "one weight larger than 32 octaves of steps": scaled(0, (7, 9), 1e8),
    "weights below fp16": scaled(0, slice(None), 1e-9),
    "huge weights": scaled(0, slice(None), 1e9),
    "huge inputs": scaled(1, slice(None), 1e9),
    "a row that alone matters": scaled(2, 5, 1e8),
    "no row that matters": scaled(2, slice(None), 0),
}


def loss(source: QuantizerInput, decoded: np.ndarray) -> float:
    assert source.hessian is not None
    assert source.fisher is not None
    error = (decoded - source.weight).astype(np.float64)
    moved = error @ source.hessian if source.hessian.ndim == 2 else error * source.hessian
    return float((source.fisher * (moved * error).sum(axis=1, dtype=np.float64)).sum())


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize("hazard", HAZARDS)
def test_every_dial_works_and_a_finer_one_loses_less_for_more_bytes(hazard: str, diagonal: bool) -> None:
    source = matrix(HAZARDS[hazard])
    assert source.hessian is not None
    if diagonal:
        source = replace(source, hessian=source.hessian.diagonal().copy())
    total = loss(source, np.zeros_like(source.weight))
    losses, sizes = [], []
    for step in STEPS:
        quantized = Tcq(float(step)).quantize(source)
        decoded = quantized.dequantize()
        assert np.isfinite(decoded).all()
        losses.append(loss(source, decoded))
        sizes.append(len(RansScaled(8).encode([quantized.symbols])))
    assert all(fine <= max(1.5 * coarse, 2e-7 * total) for fine, coarse in pairwise(losses))
    assert all(fine >= 0.97 * coarse - 8 for fine, coarse in pairwise(sizes))
    assert losses[0] <= 2e-7 * total


@pytest.mark.parametrize("columns", [0.0, 0.5])
def test_columns_kept_alike_leave_room_for_the_largest_weight_too(columns: float) -> None:
    source = matrix(scaled(0, (slice(None), 4), 1e5))
    decoded = Tcq(1e-7, columns=columns).quantize(source).dequantize()
    assert loss(source, decoded) < 1e-7 * loss(source, np.zeros_like(decoded))


def test_a_dead_column_changes_nothing_for_the_others_whatever_their_scale() -> None:
    """Its second moment, 0, counts as 1 in the unit of those that fire, so that it does not damp them away."""
    symbols = []
    for scale in (1.0, 2.0**-16):

        def hazard(weight: np.ndarray, inputs: np.ndarray, fisher: np.ndarray, scale: float = scale) -> None:
            inputs *= scale
            inputs[9] = 0

        symbols.append(Tcq(0.01 * scale).quantize(matrix(hazard)).symbols)
    np.testing.assert_array_equal(*symbols)


def test_feedback_that_asks_for_more_than_a_symbol_holds_is_left_to_later_columns() -> None:
    """A column of zeros has no weight that bounds its step, and must make up for a coarse one beside it."""

    def hazard(weight: np.ndarray, inputs: np.ndarray, fisher: np.ndarray) -> None:
        weight[:, 5] = 0
        weight[:, 6] *= 1e6
        inputs[5] = inputs[6] + 1e-3 * inputs[5]

    source = matrix(hazard)
    quantized = Tcq(1e-9, damp=1e-6).quantize(source)
    assert np.abs(quantized.symbols.astype(np.int64)).max() <= 8192  # a span that rans_scaled takes
    assert prod(quantized.shape) == quantized.symbols.size
    assert loss(source, quantized.dequantize()) < 1e-6 * loss(source, np.zeros_like(source.weight))
