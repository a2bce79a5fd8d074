"""Trellis-coded quantization: published gains, an optimal Viterbi search, water-filled steps, and its coder."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from pgpack.calibration.calibration import from_arrays
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.codecs.base import SymbolLayout
from pgpack.codecs.rans.scaled import RansScaled
from pgpack.errors import CalibrationError, CorruptArtifact, FormatError, RecipeError
from pgpack.pack import pack
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.feedback import factorize, ordered_transpose
from pgpack.quantizers.tcq import Price, Tcq, sensitivity
from pgpack.quantizers.viterbi import predecessors, trellis_path
from pgpack.recipe.recipe import parse_recipe
from pgpack.tensors.trellis import POLYNOMIALS, supersets, transitions
from pgpack.tensors.trellis_grid import TrellisGrid, octaves
from tests.contracts.check_quantizers import check_quantizer


def quantized_path(x: np.ndarray, n_states: int) -> np.ndarray:
    branches = predecessors(transitions(n_states))
    path = np.empty(len(x), np.float32)
    scratch = np.empty((len(x), n_states), np.uint8), np.empty((len(x), 4), np.int32)
    trellis_path(x.astype(np.float32), branches, *scratch, path, 0)
    return path


def allowed(path: tuple[int, ...], n_states: int) -> bool:
    """Whether integers are a path: the slow statement of the module's three equations."""
    state = 0
    for n in path:
        if (n - state) % 2:
            return False
        state = int(transitions(n_states)[state, ((n - (state & 1)) // 2) & 1])
    return True


@pytest.mark.parametrize("n_states", POLYNOMIALS)
def test_every_state_has_two_ways_in_and_one_superset(n_states: int) -> None:
    table = transitions(n_states)
    assert (np.bincount(table.reshape(-1), minlength=n_states) == 2).all()
    branches = predecessors(table)
    assert (branches[:, 0, 0] % 2 == branches[:, 1, 0] % 2).all()  # merging branches come from one superset
    assert (branches[:, 0, 1] != branches[:, 1, 1]).all()  # and from different subsets of it


@pytest.mark.parametrize(("n_states", "decibel"), [(4, 0.99), (8, 1.09), (16, 1.15), (32, 1.21), (64, 1.26)])
def test_the_granular_gain_is_the_published_one(n_states: int, decibel: float) -> None:
    """Gain over a scalar quantizer of the same rate (step 2). Source: Marcellin and Fischer 1990, Table I."""
    x = np.random.default_rng(0).normal(0, 8, 40_000)
    error = np.mean((x - quantized_path(x, n_states)) ** 2)
    assert 10 * np.log10((4 / 12) / error) == pytest.approx(decibel, abs=0.03)


def test_viterbi_finds_the_best_of_all_paths() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        x = rng.normal(0, 1.5, 5)
        best = min(
            (p for p in itertools.product(range(-5, 6), repeat=5) if allowed(p, 8)),
            key=lambda p: float(np.sum((x - np.array(p)) ** 2)),
        )
        found = quantized_path(x, 8)
        assert allowed(tuple(int(n) for n in found), 8)
        assert np.sum((x - found) ** 2) == pytest.approx(np.sum((x - np.array(best)) ** 2), rel=1e-5)


def source(rows: int = 96, cols: int = 32, fisher: float = 2.0) -> QuantizerInput:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((500, cols)) * np.exp(rng.normal(0, 1, cols))
    hessian = (x.T @ x / len(x)).astype(np.float32)
    weight = (rng.standard_normal((rows, cols)) * 0.05).astype(np.float32)
    return QuantizerInput("w", weight, hessian, np.full(rows, fisher, np.float32))


def weighted_loss(matrix: QuantizerInput, decoded: np.ndarray) -> float:
    assert matrix.hessian is not None
    assert matrix.fisher is not None
    error = (decoded - matrix.weight).astype(np.float64)
    return float(0.5 * (matrix.fisher * np.einsum("ij,jk,ik->i", error, matrix.hessian, error)).sum())


def test_the_loss_per_weight_is_set_by_the_step_alone() -> None:
    """loss / weights = step^2 / 2 times the trellis's error of a unit step, whatever Hessian and Fisher are."""
    for fisher, cols in ((1.0, 32), (50.0, 32), (1.0, 64)):
        matrix = source(cols=cols, fisher=fisher)
        decoded = Tcq(step=0.003, states=8, damp=0).quantize(matrix).dequantize()
        per_weight = weighted_loss(matrix, decoded) / matrix.weight.size
        assert per_weight == pytest.approx(0.5 * 0.003**2 * 0.2594, rel=0.08)


def test_more_states_lose_less() -> None:
    matrix = source(rows=512)
    losses = [weighted_loss(matrix, Tcq(0.01, states).quantize(matrix).dequantize()) for states in (1, 4, 8, 64)]
    assert losses == sorted(losses, reverse=True)


def test_one_state_is_the_scalar_quantizer_of_twice_the_step() -> None:
    x = np.random.default_rng(5).normal(0, 3, 1000)
    np.testing.assert_array_equal(quantized_path(x, 1), 2 * np.rint(x / 2))


def test_column_steps_can_be_kept_alike() -> None:
    matrix = source()
    assert len(np.unique(Tcq(0.01, columns=1).quantize(matrix).grid.arrays["columns"])) > 1
    assert not Tcq(0.01, columns=0).quantize(matrix).grid.arrays["columns"].any()


@pytest.mark.parametrize("quantizer", [Tcq(step=0.02), Tcq(step=0.02, states=64, group=3)], ids=repr)
def test_contract(quantizer: Tcq) -> None:
    check_quantizer(quantizer, masks=False)


def test_tcq_without_fisher_weights_says_so() -> None:
    matrix = source()
    with pytest.raises(CalibrationError, match="Fisher"):
        Tcq(0.01).quantize(QuantizerInput("w", matrix.weight, matrix.hessian))


def test_rows_that_matter_more_get_finer_steps() -> None:
    matrix = source()
    fisher = np.full(96, 1.0, np.float32)
    fisher[10], fisher[20] = 16.0, 0.0
    grid = Tcq(0.01, rows=0.5).quantize(dataclasses.replace(matrix, fisher=fisher)).grid
    assert isinstance(grid, TrellisGrid)
    assert grid.rows[10] == -8  # 16^(-1/4) = 1/2: an octave finer
    assert 0 < grid.rows[20] <= 24  # never seen: coarser, but not lost
    assert not Tcq(0.01, rows=0).quantize(matrix).grid.arrays["rows"].size


def test_a_tied_table_is_judged_by_products_and_look_ups() -> None:
    matrix = source(rows=6, cols=3)
    rng = np.random.default_rng(7)
    g = rng.standard_normal((50, 3)).astype(np.float32)
    shares = rng.random(6).astype(np.float32)
    tied = dataclasses.replace(matrix, lookup_hessian=g.T @ g / 50, lookup_fisher=shares)
    joined, weights = sensitivity(tied)
    H, G, f = matrix.hessian, tied.lookup_hessian, matrix.fisher
    assert H is not None
    assert G is not None
    assert f is not None
    assert joined.hessian is not None
    separate = f.sum() * np.trace(H) + shares.sum() * np.trace(G)
    assert weights.sum() * np.trace(joined.hessian) == pytest.approx(separate, rel=1e-5)
    same, plain = sensitivity(matrix)
    assert same is matrix
    np.testing.assert_array_equal(plain, f)


def test_unknown_trellises_are_refused() -> None:
    with pytest.raises(RecipeError, match="states"):
        parse_recipe("*=tcq(step=0.1,states=7)|rans_scaled")
    with pytest.raises(FormatError, match="no trellis"):
        transitions(12)
    with pytest.raises(RecipeError, match="states"):
        RansScaled(states=3)


def test_octaves_are_exact_at_whole_exponents_and_close_between() -> None:
    exponents = np.arange(-40, 41)
    np.testing.assert_allclose(octaves(exponents, 8), 2.0 ** (exponents / 8), rtol=1e-7)
    np.testing.assert_array_equal(octaves(np.array([-8, 0, 8, 16]), 8), np.float32([0.5, 1, 2, 4]))


def test_a_trellis_grid_refuses_factors_that_do_not_fit() -> None:
    grid = TrellisGrid(np.zeros(3, np.int8), np.empty(0, np.int8), np.empty(0, np.int8), 1.0, 8)
    with pytest.raises(FormatError, match="do not fit"):
        grid.dequantize(np.zeros((2, 4), np.int8))


@pytest.mark.parametrize("states", [0, 1, 4, 8, 64])
def test_rans_scaled_restores_every_shape_and_dtype(states: int) -> None:
    rng = np.random.default_rng(3)
    arrays = [
        np.rint(rng.normal(0, 3, (60, 50)) * np.exp(rng.normal(0, 1, 50))).astype(np.int16),
        np.rint(rng.normal(0, 1, (700, 40))).astype(np.int8),
        np.zeros((5, 0), np.int8),
        np.int8([[3]]),
        np.rint(rng.normal(0, 9, 33)).astype(np.int8),
        np.zeros((40, 40), np.int8),
        np.rint(rng.normal(0, 2, (3, 4, 5))).astype(np.int32),
    ]
    coder = RansScaled(states)
    data = coder.encode(arrays)
    layouts = [SymbolLayout(a.shape, a.dtype.str) for a in arrays]
    for before, after in zip(arrays, coder.decode(data, layouts), strict=True):
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype
    assert sum(coder.ideal_bits(arrays)) / 8 <= len(data)
    assert coder.encode(arrays) == data
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(CorruptArtifact):
            coder.decode(data[:cut], layouts)
    assert RansScaled(states).decode(RansScaled(states).encode([]), []) == []


def test_rans_scaled_takes_wide_alphabets_and_refuses_wider_ones() -> None:
    rng = np.random.default_rng(8)
    wide = np.rint(rng.normal(0, 900, (90, 80))).astype(np.int16)
    coder = RansScaled(8)
    decoded = coder.decode(coder.encode([wide]), [SymbolLayout((90, 80), "<i2")])[0]
    np.testing.assert_array_equal(decoded, wide)
    with pytest.raises(RecipeError, match="use a coarser step"):
        coder.encode([np.array([[0, 20_000]], np.int16)])


def test_damaged_scaled_streams_decode_to_something_or_are_corrupt() -> None:
    rng = np.random.default_rng(4)
    arrays = [np.rint(rng.normal(0, 3, (64, 64))).astype(np.int8)]
    coder = RansScaled(8)
    data = bytearray(coder.encode(arrays))
    layouts = [SymbolLayout((64, 64), "|i1")]
    refused = 0
    for _ in range(150):
        at, bit = int(rng.integers(len(data))), 1 << int(rng.integers(8))
        data[at] ^= bit
        try:
            assert coder.decode(bytes(data), layouts)[0].shape == (64, 64)
        except CorruptArtifact:
            refused += 1
        data[at] ^= bit
    assert refused > 100


def test_scaled_coding_is_near_the_entropy_of_scaled_gaussians() -> None:
    """Rows and columns of different scale cost what their parts cost: within 2 % of the differential entropy."""
    rng = np.random.default_rng(5)
    scales = np.exp(rng.normal(0, 0.7, (400, 1))) * np.exp(rng.normal(0, 0.7, 600)) * 6
    symbols = np.rint(rng.standard_normal((400, 600)) * scales).astype(np.int16)
    bits = 8 * len(RansScaled().encode([symbols])) / symbols.size
    gaussian = np.mean(0.5 * np.log2(2 * np.pi * np.e * (scales**2 + 1 / 12)))
    assert bits < 1.02 * gaussian


def test_supersets_follow_the_three_equations() -> None:
    symbols = np.random.default_rng(6).integers(-4, 5, (30, 7))
    bits = supersets(symbols, 16)
    for column in range(7):
        state = 0
        for row in range(30):
            assert bits[row, column] == state & 1
            state = int(transitions(16)[state, symbols[row, column] & 1])


def test_trellis_artifacts_round_trip_and_beat_scalar_gptq() -> None:
    matrix = source(rows=256, cols=96)
    checkpoint = from_tensors({"w": matrix.weight})
    assert matrix.hessian is not None
    assert matrix.fisher is not None
    calibration = from_arrays({"w.hessian": matrix.hessian, "w.fisher": matrix.fisher}, "", 1)
    trellis = pack(checkpoint, parse_recipe("*=tcq(step=0.04,states=8)|rans_scaled(states=8)"), calibration)
    scalar = pack(checkpoint, parse_recipe("*=gptq(bits=8,clip=60)|rans"), calibration)
    losses = [weighted_loss(matrix, a.records[0].dequantize()) for a in (trellis, scalar)]
    assert losses[0] < losses[1]
    assert trellis.n_bytes < 0.85 * scalar.n_bytes


def test_rows_far_below_their_step_cost_no_more_than_zeros() -> None:
    """Coarse rows between fine ones: on one path in their own order, odd states would force them away from zero."""
    fisher = np.full(96, 1.0, np.float32)
    fisher[::3] = 2.0**-12
    matrix = dataclasses.replace(source(), fisher=fisher)
    decoded = Tcq(0.05, 64, rows=1).quantize(matrix).dequantize()
    power = np.square(matrix.weight[::3]).mean()
    assert np.square(decoded - matrix.weight)[::3].mean() < 1.1 * power


def test_the_price_of_bits_is_a_ridge() -> None:
    """The target minimizes (w - v) H (w - v) + a v v."""
    matrix = source(rows=40)
    assert matrix.hessian is not None
    price = Price.of(matrix.weight, np.ones(40), 3.0)
    assert price.ridge == pytest.approx(0.25 * 3.0 / np.square(matrix.weight).mean())
    factor = factorize(matrix, "tcq", 0.0, act_order=True, ridge=price.ridge)
    found = price.target(ordered_transpose(matrix.weight, factor, slice(None)), factor).T[:, np.argsort(factor.order)]
    H = matrix.hessian.astype(np.float64)
    expected = matrix.weight @ H @ np.linalg.inv(H + price.ridge * np.eye(32))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bits_that_buy_nothing_are_not_spent() -> None:
    """At a step far above the weights everything is zero."""
    decoded = Tcq(3.0, 64).quantize(source()).dequantize()
    assert not decoded.any()
