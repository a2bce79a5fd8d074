"""Rows that correct each other: shifts and weights are what minimization says, correlated matrices get smaller."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pgpack.codecs.rans.scaled import RansScaled
from pgpack.errors import CalibrationError, RecipeError
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.row_feedback import RowFactor
from pgpack.quantizers.tcq import Tcq


def correlated(n: int, seed: int) -> np.ndarray:
    """Second moments whose eigenvalues fall by a factor of e^2 every n / 4."""
    B = np.random.default_rng(seed).standard_normal((n, n)) * np.exp(-4 * np.arange(n) / n)
    return (B @ B.T / n).astype(np.float32)


def source(rows: int = 96, cols: int = 64) -> QuantizerInput:
    weight = np.random.default_rng(0).standard_normal((rows, cols)).astype(np.float32)
    outputs = correlated(rows, 1)
    return QuantizerInput("w", weight, correlated(cols, 2), np.diag(outputs).copy(), outputs=outputs)


def test_the_shift_is_what_free_rows_would_do() -> None:
    """Given the errors of decided rows, the rest minimizes tr(G E E^T) at -G_ll^-1 G_ld E_d."""
    G, path = correlated(20, 3), np.random.default_rng(4).permutation(20)
    factor = RowFactor.of("w", G, path, 0.1, 6)
    ordered = (G.astype(np.float64) + 0.1 * np.diag(G).mean() * np.eye(20))[np.ix_(path, path)] / 1.1
    errors = np.random.default_rng(5).standard_normal((20, 7)).astype(np.float32)
    for rows in factor.groups():
        later, done = slice(rows.start, 20), slice(0, rows.start)
        free = -np.linalg.solve(ordered[later, later], ordered[later, done] @ errors[done])
        np.testing.assert_allclose(-factor.shift(rows, errors), free[: rows.stop - rows.start], atol=1e-4)


def test_a_rows_weight_is_what_is_left_when_later_rows_follow() -> None:
    """The diagonal of the Schur complement of all later groups."""
    G = correlated(20, 3)
    factor = RowFactor.of("w", G, np.arange(20), 0.1, 6)
    damped = (G.astype(np.float64) + 0.1 * np.diag(G).mean() * np.eye(20)) / 1.1
    for rows in factor.groups():
        later = slice(rows.stop, 20)
        left = damped[rows, rows] - damped[rows, later] @ np.linalg.solve(damped[later, later], damped[later, rows])
        np.testing.assert_allclose(factor.weights[rows], np.diag(left), rtol=1e-6)


@pytest.mark.parametrize("step", [0.025, 0.1])
def test_rows_that_correct_each_other_cost_less_of_both(step: float) -> None:
    """At one step of the dial a matrix with correlated rows takes fewer bits and loses less."""
    matrix = source()
    costs = []
    for each in (matrix, dataclasses.replace(matrix, outputs=None)):
        quantized = Tcq(step, group=32).quantize(each)
        error = (quantized.dequantize() - matrix.weight).astype(np.float64)
        loss = np.trace(matrix.outputs @ error @ matrix.hessian @ error.T)
        costs.append((RansScaled(8).ideal_bits([quantized.symbols])[0], loss))
    (bits, loss), (bits_apart, loss_apart) = costs
    assert bits < 0.9 * bits_apart
    assert loss < loss_apart


def test_rows_that_have_nothing_in_common_are_quantized_as_before() -> None:
    matrix = source()
    fisher = np.full(96, 0.5, np.float32)
    apart = dataclasses.replace(matrix, fisher=fisher, outputs=None)
    together = dataclasses.replace(matrix, fisher=fisher, outputs=np.diag(fisher))
    before, after = Tcq(0.05).quantize(apart), Tcq(0.05, group=32).quantize(together)
    np.testing.assert_allclose(after.grid.step, before.grid.step, rtol=1e-6)
    errors = [np.square(each.dequantize() - matrix.weight).sum() for each in (before, after)]
    assert errors[1] == pytest.approx(errors[0], rel=0.05)  # a path decided in parts is a little worse
    np.testing.assert_array_equal(Tcq(0.05, group=96).quantize(together).symbols, before.symbols)


def test_rows_are_left_apart_by_default() -> None:
    matrix = source()
    apart = Tcq(0.05).quantize(dataclasses.replace(matrix, outputs=None))
    np.testing.assert_array_equal(Tcq(0.05).quantize(matrix).symbols, apart.symbols)


def test_what_is_no_second_moment_is_refused() -> None:
    matrix = source()
    assert matrix.outputs is not None
    for wrong in (matrix.outputs[:4, :4], np.full_like(matrix.outputs, np.nan)):
        with pytest.raises(CalibrationError, match="output gradients"):
            Tcq(0.05, group=8).quantize(dataclasses.replace(matrix, outputs=wrong))
    with pytest.raises(CalibrationError, match="row_damp"):
        Tcq(0.05, group=8).quantize(dataclasses.replace(matrix, outputs=matrix.outputs - 9 * np.eye(96)))
    with pytest.raises(RecipeError, match="row_damp"):
        Tcq(0.05, row_damp=0)


def test_rows_never_seen_are_no_obstacle() -> None:
    matrix = source()
    unseen = dataclasses.replace(matrix, outputs=np.zeros((96, 96), np.float32), fisher=np.zeros(96, np.float32))
    assert np.isfinite(Tcq(0.05, group=8).quantize(unseen).dequantize()).all()
