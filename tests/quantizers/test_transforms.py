"""Every transform with every quantizer, pruning, and the chain that nests them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.errors import CalibrationError, CheckpointError, RecipeError
from pgpack.quantizers import TRANSFORMS
from pgpack.quantizers.base import Encoding, QuantizerInput
from pgpack.quantizers.chain import quantize_matrix
from pgpack.quantizers.codebook import KMeans, Nf4, ProductKMeans
from pgpack.quantizers.gptq import Gptq
from pgpack.quantizers.low_rank import Lqer, LqerAsym, Svd
from pgpack.quantizers.pruning import (
    Prune24,
    PruneGlobal,
    PruneMagnitude,
    PruneThreshold,
    PruneWanda,
    global_threshold,
)
from pgpack.quantizers.sparsegpt import PruneObs
from pgpack.quantizers.ternary import Binary, Ternary
from pgpack.quantizers.uniform import Rtn, SdClip
from pgpack.stages import parse_stage, stage_text
from tests.contracts.check_quantizers import decoded, hessian_of, matrices, source_of

PRUNERS = [PruneMagnitude(0.4), PruneThreshold(0.02), PruneWanda(0.3), Prune24(), PruneObs(0.5, block=16)]
TRANSFORM_CASES = [*PRUNERS, Lqer(rank=3), LqerAsym(), Svd(rank=6)]
QUANTIZER_CASES = [Rtn(bits=6), SdClip(), Gptq(), KMeans(k=16), ProductKMeans(k=16), Nf4(), Ternary()]


def problem(rows=24, cols=40, seed=0, std=0.05):
    rng = np.random.default_rng(seed)
    weight = (std * rng.standard_normal((rows, cols))).astype(np.float32)
    return QuantizerInput("w", weight, hessian_of(cols, seed + 1), np.ones(rows, np.float32))


def weighted_error(source, matrix):
    error = matrix.astype(np.float64) - source.weight
    return float(np.sum((error @ source.hessian) * error))


def chain(source, transforms, quantizer):
    return decoded(quantize_matrix(source, transforms, quantizer), source.weight.shape)


@pytest.mark.parametrize("transform", TRANSFORM_CASES, ids=repr)
def test_every_transform_takes_every_matrix_and_changes_none(transform):
    for name, weight in matrices():
        source = source_of(name, weight)
        before = weight.copy(), source.hessian.copy()
        first = quantize_matrix(source, [transform], Gptq())
        assert np.array_equal(weight, before[0]), name
        assert np.array_equal(source.hessian, before[1]), name
        matrix = decoded(first, weight.shape)
        assert np.isfinite(matrix).all(), name
        again = quantize_matrix(source, [transform], Gptq())
        assert [p.symbols.tobytes() for p in again.parts] == [p.symbols.tobytes() for p in first.parts], name


@pytest.mark.parametrize("quantizer", QUANTIZER_CASES, ids=repr)
@pytest.mark.parametrize("transform", TRANSFORM_CASES, ids=repr)
def test_every_transform_combines_with_every_quantizer(transform, quantizer):
    source = problem()
    matrix = chain(source, [transform], quantizer)
    if transform in PRUNERS:
        assert (matrix == 0).mean() > 0.25
    assert matrix.shape == source.weight.shape


@pytest.mark.parametrize("transform", [*TRANSFORM_CASES, PruneGlobal(0.3)], ids=repr)
def test_text_form_round_trips(transform):
    name = {cls: key for key, cls in TRANSFORMS.items()}[type(transform)]
    assert parse_stage(stage_text(name, transform, full=True), TRANSFORMS) == transform


@pytest.mark.parametrize("transform", TRANSFORM_CASES, ids=repr)
def test_transforms_refuse_matrices_that_are_not_finite(transform):
    source = problem()
    source.weight[0, 0] = np.nan
    with pytest.raises(CheckpointError, match=r"^w:"):
        quantize_matrix(source, [transform], KMeans())


@pytest.mark.parametrize("transform", [t for t in TRANSFORM_CASES if t.needs_hessian], ids=repr)
def test_transforms_that_need_a_hessian_say_so(transform):
    source = QuantizerInput("blocks.0.mlp.fc", np.ones((2, 4), np.float32))
    with pytest.raises(CalibrationError, match=r"blocks\.0\.mlp\.fc.*needs a Hessian"):
        quantize_matrix(source, [transform], Rtn())


def test_a_plain_chain_is_the_quantizer():
    source = problem()
    encoding = quantize_matrix(source, [], SdClip())
    assert encoding.form == "plain"
    assert encoding.residual_norm is None
    assert np.array_equal(encoding.parts[0].symbols, SdClip().quantize(source).symbols)


# Pruning


def mask_of(transform, source):
    """The mask and the weights that reach the quantizer."""
    seen = []

    def inner(given):
        seen.append(given)
        return Encoding("plain", (Rtn().quantize(given),))

    transform.apply(source, inner)
    return seen[0]


@given(sparsity=st.floats(0, 0.99), seed=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_magnitude_pruning_drops_exactly_the_smallest(sparsity, seed):
    source = problem(5, 9, seed)
    keep = mask_of(PruneMagnitude(sparsity), source).keep
    assert (~keep).sum() == int(sparsity * 45)
    magnitudes = np.abs(source.weight)
    assert magnitudes[~keep].max(initial=0) <= magnitudes[keep].min(initial=np.inf)


@pytest.mark.parametrize("transform", PRUNERS, ids=repr)
def test_a_nested_mask_keeps_what_both_keep(transform):
    source = problem()
    outer = mask_of(PruneMagnitude(0.2), source).keep
    both = mask_of(transform, QuantizerInput("w", source.weight, source.hessian, None, outer)).keep
    assert not both[~outer].any()


@given(sparsity=st.floats(0, 0.99), seed=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_global_threshold_prunes_at_most_the_asked_fraction_of_all(sparsity, seed):
    rng = np.random.default_rng(seed)
    population = [(std * rng.standard_normal((40, 50))).astype(np.float32) for std in (0.01, 0.1, 1.0)]
    bound = PruneGlobal(sparsity).bind(iter(population))
    assert isinstance(bound, PruneThreshold)
    pruned = np.mean([np.abs(matrix) < bound.threshold for matrix in population])
    assert sparsity - 0.003 < pruned <= sparsity
    exact = np.quantile(np.abs(np.stack(population)), sparsity)
    assert bound.threshold == pytest.approx(exact, rel=0.01, abs=1e-4)


@pytest.mark.parametrize("population", [[], [np.zeros((3, 3), np.float32)], [np.full((3, 3), 0.5, np.float32)]])
def test_global_threshold_prunes_nothing_where_no_weight_is_smaller_than_another(population):
    threshold = global_threshold(population, 0.5)
    assert not any((np.abs(matrix) < threshold).any() for matrix in population)


def test_global_threshold_spares_a_population_at_the_top_of_float32():
    matrix = np.full((2, 2), np.finfo(np.float32).max, np.float32)
    assert not (matrix < global_threshold([matrix], 0.9)).any()


def test_global_pruning_must_be_bound():
    with pytest.raises(RecipeError, match="bind"):
        quantize_matrix(problem(), [PruneGlobal()], Rtn())


def test_wanda_weighs_columns_by_their_activations_within_each_row():
    weight = np.array([[3.0, 2.0, 1.0, 4.0], [0.3, 0.2, 0.1, 0.4]], np.float32)
    hessian = np.diag(np.array([0.01, 1.0, 100.0, 1.0], np.float32))  # scores of row 0: 0.3 2 10 4
    keep = mask_of(PruneWanda(0.5), QuantizerInput("w", weight, hessian)).keep
    assert keep.tolist() == [[False, False, True, True]] * 2


def test_two_of_four_keeps_the_two_largest_of_each_four():
    weight = np.array([[1, -5, 3, 2, 7, 7, 7, 7, -1, 2, -3]], np.float32)
    keep = mask_of(Prune24(), QuantizerInput("w", weight)).keep
    assert keep.astype(int).tolist() == [[0, 1, 1, 0, 1, 1, 0, 0, 0, 1, 1]]


def test_magnitude_transforms_hand_the_weights_on_unchanged():
    source = problem()
    for transform in (PruneMagnitude(), PruneThreshold(), PruneWanda(), Prune24()):
        assert np.array_equal(mask_of(transform, source).weight, source.weight)


def test_obs_prunes_its_share_of_every_block():
    found = mask_of(PruneObs(0.25, block=16), problem())
    assert [int((~found.keep[:, b : b + 16]).sum()) for b in (0, 16, 32)] == [96, 96, 48]
    assert not found.weight[~found.keep].any()


def test_obs_without_sparsity_changes_nothing():
    source = problem()
    found = mask_of(PruneObs(0.0), source)
    assert np.array_equal(found.weight, source.weight)


@pytest.mark.parametrize("seed", range(4))
def test_obs_beats_wanda_beats_magnitude_on_the_hessian_weighted_error(seed):
    source = problem(64, 96, seed)
    errors = [
        weighted_error(source, np.where(found.keep, found.weight, 0))
        for found in (mask_of(t, source) for t in (PruneObs(0.5), PruneWanda(0.5), PruneMagnitude(0.5)))
    ]
    assert errors[0] < 0.9 * errors[1]
    assert errors[1] < 0.9 * errors[2]


def naive_sparsegpt(weight, hessian, sparsity, block, damp):
    """arXiv:2301.00774, Alg. 1, by explicit downdates of the inverse Hessian. float64."""
    W = weight.astype(np.float64)
    H = hessian.astype(np.float64) + damp * np.diag(hessian).astype(np.float64).mean() * np.eye(len(hessian))
    inverses = [np.linalg.inv(H[j:, j:]) for j in range(len(H))]
    for start in range(0, len(H), block):
        stop = min(start + block, len(H))
        diagonal = np.array([inverses[j][0, 0] for j in range(start, stop)])
        scores = W[:, start:stop] ** 2 / diagonal
        count = int(sparsity * scores.size)
        pruned = scores <= np.sort(scores, axis=None)[count - 1]
        for j in range(start, stop):
            error = np.where(pruned[:, j - start], W[:, j], 0.0)
            W[:, j:] -= np.outer(error, inverses[j][0] / inverses[j][0, 0])
            W[:, j] *= ~pruned[:, j - start]
    return W


def test_obs_equals_naive_sparsegpt():
    source = problem(6, 12)
    found = mask_of(PruneObs(0.5, 0.02, 5), source)
    assert np.allclose(found.weight, naive_sparsegpt(source.weight, source.hessian, 0.5, 5, 0.02), atol=1e-5)


def test_gptq_after_a_mask_compensates_what_was_pruned():
    source = problem(64, 96)
    compensated = chain(source, [PruneMagnitude(0.3)], Gptq())
    rounded = chain(source, [PruneMagnitude(0.3)], SdClip())
    assert weighted_error(source, compensated) < 0.8 * weighted_error(source, rounded)


def test_binary_cannot_follow_pruning():
    with pytest.raises(RecipeError, match="cannot follow pruning"):
        quantize_matrix(problem(), [PruneMagnitude()], Binary())


@pytest.mark.parametrize(
    "build",
    [
        lambda: PruneMagnitude(1.0),
        lambda: PruneGlobal(-0.1),
        lambda: PruneThreshold(-1),
        lambda: PruneWanda(2),
        lambda: PruneObs(0.5, -1),
        lambda: PruneObs(block=0),
        lambda: Lqer(rank=0),
        lambda: Lqer(bits=9),
        lambda: LqerAsym(a_bits=1),
        lambda: LqerAsym(group=0),
        lambda: LqerAsym(top=0),
        lambda: Svd(rank=0),
    ],
)
def test_settings_out_of_range_are_recipe_errors(build):
    with pytest.raises(RecipeError, match="must be"):
        build()
