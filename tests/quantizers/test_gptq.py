"""GPTQ against oracles that are slow and obvious."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pgpack.errors import CalibrationError, RecipeError
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.feedback import factorize
from pgpack.quantizers.gptq import Gptq
from pgpack.quantizers.uniform import SdClip
from tests.contracts.check_quantizers import check_quantizer, hessian_of


@pytest.mark.parametrize(
    "quantizer",
    [Gptq(), Gptq(bits=4, clip=4, group=16, block=7), Gptq(bits=8, clip=20, act_order=False, damp=0.1)],
    ids=repr,
)
def test_contract(quantizer):
    check_quantizer(quantizer)


def problem(rows=24, cols=40, seed=0):
    rng = np.random.default_rng(seed)
    weight = (0.05 * rng.standard_normal((rows, cols))).astype(np.float32)
    return QuantizerInput("w", weight, hessian_of(cols, seed + 1))


def weighted_error(source, tensor):
    error = tensor.dequantize().astype(np.float64) - source.weight
    return float(np.sum((error @ source.hessian) * error))


def naive_obq(source, scales, order, R=7, damp=0.01):
    """Optimal Brain Quantization, one column at a time in a fixed order (arXiv:2208.11580, Eq. 7 and 8): the
    inverse of the remaining Hessian is downdated explicitly after each column. float64."""
    W = source.weight.astype(np.float64)
    H = source.hessian.astype(np.float64)
    inverse = np.linalg.inv(H + damp * np.mean(np.diag(H)) * np.eye(len(H)))
    Q = np.zeros(W.shape, dtype=np.int64)
    for j in order:
        step = scales[:, j].astype(np.float64)
        Q[:, j] = np.clip(np.rint(W[:, j] / step), -R, R)
        error = W[:, j] - Q[:, j] * step
        W -= np.outer(error, inverse[j]) / inverse[j, j]
        inverse -= np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        inverse[j, :] = inverse[:, j] = 0
        inverse[j, j] = 1
    return Q


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group", [0, 3])
def test_gptq_equals_naive_obq_on_8x8(seed, act_order, group):
    source = problem(8, 8, seed)
    tensor = Gptq(bits=4, clip=3.0, group=group, block=3, act_order=act_order).quantize(source)
    order = np.argsort(-source.hessian.diagonal(), kind="stable") if act_order else range(8)
    scales = np.repeat(tensor.grid.scales, group or 8, axis=1)[:, :8]
    assert np.array_equal(tensor.symbols, naive_obq(source, scales, order))


def torch_gptq(source, clip=12.85, R=31, block=128):
    """The field's GPTQ-SDClip (openai/parameter-golf PR #1394) restated: float32, explicit inverse, act order."""
    W, H = torch.from_numpy(source.weight), torch.from_numpy(source.hessian).clone()
    H += 0.01 * H.diagonal().mean() * torch.eye(len(H))
    order = torch.argsort(H.diagonal(), descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H[order][:, order]))
    U = torch.linalg.cholesky(inverse, upper=True)
    scales = (clip * W.std(dim=1) / R).clamp_min(1e-10).half()
    W, step, Q = W[:, order].clone(), scales.float(), torch.zeros(W.shape)
    for start in range(0, W.shape[1], block):
        stop = min(start + block, W.shape[1])
        errors = torch.zeros(len(W), stop - start)
        for j in range(start, stop):
            Q[:, j] = torch.round(W[:, j] / step).clamp(-R, R)
            errors[:, j - start] = (W[:, j] - Q[:, j] * step) / U[j, j]
            W[:, j:stop] -= errors[:, j - start, None] * U[j, j:stop]
        W[:, stop:] -= errors @ U[start:stop, stop:]
    return Q[:, torch.argsort(order)].numpy(), scales.numpy()


def test_gptq_agrees_with_the_field_s_packer():
    source = problem(96, 300)
    tensor = Gptq().quantize(source)
    symbols, scales = torch_gptq(source)
    assert (tensor.grid.scales[:, 0] == scales).mean() > 0.95  # the last bit of a float32 std may fall either way
    same = tensor.grid.scales[:, 0] == scales
    assert (tensor.symbols == symbols)[same].mean() > 0.999  # float32 against float64 factors: rare ties


def test_factor_is_the_upper_cholesky_of_the_inverse():
    source = problem(cols=30)
    factor = factorize(source, "gptq", 0.02, act_order=True)
    H = source.hessian.astype(np.float64)
    damped = (H + 0.02 * np.diag(H).mean() * np.eye(30))[np.ix_(factor.order, factor.order)]
    U = factor.d[:, None] * factor.V
    assert np.allclose(np.tril(U, -1), 0)
    assert np.allclose(U.T @ U @ damped, np.eye(30), atol=1e-4)


def test_block_size_does_not_change_symbols():
    source = problem(30, 200)
    whole = Gptq(block=1000).quantize(source).symbols
    for block in (1, 16, 199):
        assert (Gptq(block=block).quantize(source).symbols == whole).mean() > 0.999  # float sums reorder


def test_more_rows_than_one_pass_do_not_change_a_row():
    source = problem(2100, 8)
    part = QuantizerInput("w", source.weight[1500:1510], source.hessian)
    assert np.array_equal(Gptq().quantize(source).symbols[1500:1510], Gptq().quantize(part).symbols)


@pytest.mark.parametrize("seed", range(4))
def test_gptq_beats_rounding_on_the_hessian_weighted_error(seed):
    source = problem(64, 96, seed)
    for bits, clip in ((4, 4.0), (6, 12.85)):
        ratio = weighted_error(source, Gptq(bits, clip).quantize(source)) / weighted_error(
            source, SdClip(bits, clip).quantize(source)
        )
        assert ratio < 0.9


def test_gptq_is_rounding_when_the_hessian_is_diagonal():
    source = problem()
    diagonal = QuantizerInput("w", source.weight, np.diag(source.hessian.diagonal()))
    assert np.array_equal(Gptq().quantize(diagonal).symbols, SdClip().quantize(source).symbols)


def test_the_scale_of_the_hessian_does_not_matter():
    source = problem()
    doubled = QuantizerInput("w", source.weight, source.hessian * np.float32(1024))
    assert np.array_equal(Gptq().quantize(source).symbols, Gptq().quantize(doubled).symbols)


def test_activation_order_makes_gptq_independent_of_column_order():
    source = problem()
    shuffle = np.random.default_rng(9).permutation(40)
    shuffled = QuantizerInput("w", source.weight[:, shuffle], source.hessian[np.ix_(shuffle, shuffle)])
    assert np.array_equal(Gptq().quantize(shuffled).symbols, Gptq().quantize(source).symbols[:, shuffle])
    fixed = Gptq(act_order=False)
    assert not np.array_equal(fixed.quantize(shuffled).symbols, fixed.quantize(source).symbols[:, shuffle])


def test_columns_that_never_fired_quantize_to_zero():
    source = problem()
    hessian = source.hessian.copy()
    hessian[:, 5] = hessian[5, :] = 0
    symbols = Gptq().quantize(QuantizerInput("w", source.weight, hessian)).symbols
    assert not symbols[:, 5].any()
    assert symbols[:, 6].any()


def test_a_masked_weight_hands_its_error_on():
    source = problem(64, 40)
    keep = np.random.default_rng(2).random(source.weight.shape) < 0.7
    masked = QuantizerInput("w", source.weight, source.hessian, None, keep)
    assert weighted_error(source, Gptq().quantize(masked)) < 0.8 * weighted_error(source, SdClip().quantize(masked))


def test_an_indefinite_hessian_is_a_calibration_error():
    hessian = np.array([[1, 3], [3, 1]], np.float32)
    with pytest.raises(CalibrationError, match=r"attn\.proj.*positive definite"):
        Gptq().quantize(QuantizerInput("attn.proj", np.ones((2, 2), np.float32), hessian))


@pytest.mark.parametrize("settings", [{"bits": 9}, {"clip": 0}, {"damp": -1}, {"block": 0}, {"group": -2}])
def test_settings_out_of_range_are_recipe_errors(settings):
    with pytest.raises(RecipeError, match="must be"):
        Gptq(**settings)
