"""Low-rank correction and factorization: truncated SVDs, the field's grids, and which chains they may stand in."""

from __future__ import annotations

import numpy as np
import pytest

from pgpack.errors import CalibrationError, RecipeError
from pgpack.quantizers.base import Encoding, QuantizerInput
from pgpack.quantizers.chain import quantize_matrix
from pgpack.quantizers.gptq import Gptq
from pgpack.quantizers.low_rank import Lqer, LqerAsym, Svd, leading_factors, select_corrections
from pgpack.quantizers.pruning import PruneMagnitude
from pgpack.quantizers.ternary import Ternary
from pgpack.quantizers.uniform import Rtn, SdClip
from tests.contracts.check_quantizers import decoded
from tests.quantizers.test_transforms import chain, problem


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (9, 9), (1, 7), (7, 1)])
def test_leading_factors_are_the_truncated_svd(shape):
    M = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    U, S, V_T = np.linalg.svd(M.astype(np.float64), full_matrices=False)
    for rank in (1, 3, 50):
        A, B = leading_factors(M, rank)
        r = min(rank, *shape)
        assert A.shape == (shape[0], r)
        assert B.shape == (r, shape[1])
        assert np.allclose(A @ B, (U[:, :r] * S[:r]) @ V_T[:r], atol=1e-8)
        assert np.allclose(B @ B.T, np.eye(r), atol=1e-8)


def test_leading_factors_of_a_zero_matrix_multiply_to_zero():
    for shape in ((4, 6), (6, 4)):
        A, B = leading_factors(np.zeros(shape, np.float32), 2)
        assert not (A @ B).any()
        assert np.isfinite(B).all()


@pytest.mark.parametrize("transform", [Lqer(rank=4), LqerAsym(rank=4)], ids=repr)
@pytest.mark.parametrize("quantizer", [SdClip(bits=3, clip=3), Gptq(bits=3, clip=3), Ternary()], ids=repr)
def test_a_correction_reduces_the_error_it_was_fitted_to(transform, quantizer):
    source = problem(64, 96)
    encoding = quantize_matrix(source, [transform], quantizer)
    before = np.linalg.norm(source.weight - encoding.parts[0].dequantize())
    after = np.linalg.norm(source.weight - decoded(encoding, source.weight.shape))
    assert encoding.residual_norm == pytest.approx(before, rel=1e-5)
    assert after < before


def test_eight_bit_factors_come_close_to_the_best_correction():
    source = problem(64, 96)
    encoding = quantize_matrix(source, [Lqer(rank=8)], SdClip(bits=3, clip=3))
    E = source.weight - encoding.parts[0].dequantize()
    best = np.sqrt(np.square(np.linalg.svd(E, compute_uv=False)[8:]).sum())
    after = np.linalg.norm(source.weight - decoded(encoding, source.weight.shape))
    assert after < best * 1.002


def test_asymmetric_factors_follow_the_field_s_grids():
    source = problem(70, 96)
    Q, A, B = quantize_matrix(source, [LqerAsym()], Gptq()).parts
    assert Q.shape == (70, 96)
    assert A.shape == (70, 4)
    assert A.grid.scales.shape == (1, 1)
    assert (A.symbols.min(), A.symbols.max()) == (-2, 1)
    assert B.shape == (4, 96)
    assert B.symbols.shape == (len(B.grid.scales), 64) == (6, 64)
    assert B.symbols.min() >= -8
    assert B.symbols.max() <= 7
    E = source.weight - Q.dequantize()
    U, S, _ = np.linalg.svd(E.astype(np.float64), full_matrices=False)
    assert float(A.grid.scales[0, 0]) == pytest.approx(np.abs(U[:, :4] * S[:4]).max() / 1.5, rel=1e-3)


def test_asymmetric_signs_are_never_worse_than_the_opposite_ones():
    US = leading_factors(problem(70, 96).weight, 4)[0].astype(np.float32)
    stage = LqerAsym()

    def error(A):
        return np.square(stage._left(A, "w").dequantize() - A).sum(axis=0)

    signed = (US * stage._signs(US, "w")).astype(np.float32)
    assert (error(signed) <= error(-signed)).all()


def test_a_last_group_may_be_short():
    B = quantize_matrix(problem(10, 33), [LqerAsym(rank=3)], Rtn(bits=2)).parts[2]
    assert B.symbols.shape == (2, 64)
    assert B.dequantize().shape == (3, 33)


def corrections():
    part = Rtn().quantize(QuantizerInput("w", np.ones((1, 1), np.float32)))
    norms = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 3.0}
    found = {name: Encoding("corrected", (part, part, part), norm) for name, norm in norms.items()}
    return {**found, "plain": Encoding("plain", (part,))}


@pytest.mark.parametrize(("top", "expected"), [(0, ""), (1, "b"), (2, "bd"), (3, "bcd"), (9, "abcd")])
def test_only_the_largest_residuals_keep_their_correction(top, expected):
    chosen = select_corrections(corrections(), top)
    assert list(chosen) == list(corrections())
    assert [name for name, encoding in chosen.items() if encoding.form == "corrected"] == list(expected)
    assert all(len(encoding.parts) == (3 if encoding.form == "corrected" else 1) for encoding in chosen.values())
    assert chosen["a"].residual_norm == 1.0


def test_svd_with_fine_factors_is_the_truncated_svd():
    source = problem(50, 30)
    U, S, V_T = np.linalg.svd(source.weight, full_matrices=False)
    matrix = chain(source, [Svd(rank=10)], Rtn(bits=8))
    best = (U[:, :10] * S[:10]) @ V_T[:10]
    assert np.linalg.norm(matrix - best) < 0.02 * np.linalg.norm(best)


def test_svd_gives_each_factor_its_own_hessian_and_fisher():
    source = problem(20, 30)
    seen = []

    def inner(given):
        seen.append(given)
        return Encoding("plain", (Rtn().quantize(given),))

    encoding = Svd(rank=5).apply(source, inner)
    assert encoding.form == "factored"
    B, A = seen
    decoded_b = encoding.parts[1].dequantize().astype(np.float64)
    assert np.array_equal(B.hessian, source.hessian)
    assert B.fisher is None
    assert np.allclose(A.hessian, decoded_b @ source.hessian @ decoded_b.T, rtol=1e-5)
    assert A.fisher is source.fisher


def test_svd_without_a_hessian_leaves_the_refusal_to_the_quantizer():
    source = QuantizerInput("w", problem().weight)
    assert quantize_matrix(source, [Svd(rank=4)], Rtn()).form == "factored"
    with pytest.raises(CalibrationError, match="gptq needs a Hessian"):
        quantize_matrix(source, [Svd(rank=4)], Gptq())


@pytest.mark.parametrize("low_rank", [Lqer(), LqerAsym(), Svd()], ids=repr)
def test_low_rank_cannot_follow_pruning_but_pruning_may_follow_a_correction(low_rank):
    with pytest.raises(RecipeError, match="cannot follow pruning"):
        quantize_matrix(problem(), [PruneMagnitude(), low_rank], Rtn())
    encoding = quantize_matrix(problem(), [low_rank, PruneMagnitude(0.5)], Rtn())
    assert (encoding.parts[0].dequantize() == 0).mean() >= 0.5


@pytest.mark.parametrize("outer", [Lqer(), Svd()], ids=repr)
@pytest.mark.parametrize("inner", [LqerAsym(), Svd(rank=3)], ids=repr)
def test_two_low_rank_forms_do_not_nest(outer, inner):
    with pytest.raises(RecipeError, match="cannot hold another"):
        quantize_matrix(problem(), [outer, inner], Rtn())
