"""kmeans, product_kmeans, nf4, ternary and binary."""

from __future__ import annotations

import numpy as np
import pytest

from pgpack.errors import CheckpointError, RecipeError
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.codebook import KMeans, Nf4, ProductKMeans, lloyd_levels, nf4_levels
from pgpack.quantizers.ternary import Binary, Ternary
from pgpack.quantizers.uniform import Rtn
from tests.contracts.check_quantizers import check_quantizer

EVERY = [
    KMeans(),
    KMeans(k=2),
    KMeans(k=700, seed=3),
    ProductKMeans(k=64),
    ProductKMeans(dim=4, k=32),
    Nf4(),
    Nf4(group=0),
    Ternary(),
    Ternary(group=0),
]


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_contract(quantizer):
    check_quantizer(quantizer)


def test_binary_contract_without_masks():
    check_quantizer(Binary(), masks=False)
    check_quantizer(Binary(group=16), masks=False)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def mse(quantizer, weight):
    error = quantizer.quantize(QuantizerInput("w", weight)).dequantize() - weight
    return float(np.square(error, dtype=np.float64).mean())


@pytest.mark.parametrize(
    ("k", "distortion"), [(2, 0.3634), (4, 0.1175), (8, 0.03454), (16, 0.009497), (32, 0.002499)]
)
def test_kmeans_of_a_gaussian_reaches_the_lloyd_max_distortion(k, distortion):
    assert mse(KMeans(k), normal((400, 500))) == pytest.approx(distortion, rel=0.02)  # Max 1960, table I


def test_each_level_is_the_mean_of_its_cell():
    values = np.random.default_rng(1).standard_t(4, 20000).astype(np.float32)
    levels = lloyd_levels(values, 24)
    cell = np.abs(values[:, None] - levels[None]).argmin(axis=1)
    means = np.array([values[cell == i].astype(np.float64).mean() for i in range(24)])
    assert np.allclose(means, levels, atol=2e-3)


def test_kmeans_stores_few_distinct_values_exactly():
    weight = np.random.default_rng(0).choice(np.array([-1.5, 0.25, 2.0], np.float32), (30, 11))
    tensor = KMeans(k=16).quantize(QuantizerInput("w", weight))
    assert np.array_equal(tensor.dequantize(), weight)
    assert tensor.grid.table.shape == (3, 1)


@pytest.mark.parametrize("quantizer", [KMeans(k=37), ProductKMeans(k=50), ProductKMeans(dim=4, k=50)], ids=repr)
def test_every_weight_gets_the_nearest_stored_entry(quantizer):
    weight = normal((20, 36))
    tensor = quantizer.quantize(QuantizerInput("w", weight))
    table = tensor.grid.table.astype(np.float64)
    points = weight.reshape(-1, table.shape[1])
    distance = np.square(points[:, None] - table[None]).sum(axis=2)
    chosen = distance[np.arange(len(points)), tensor.symbols.reshape(-1)]
    assert np.allclose(chosen, distance.min(axis=1), atol=1e-9)
    assert np.array_equal(np.lexsort(table.T[::-1]), np.arange(len(table)))


def test_index_dtype_is_the_narrowest():
    weight = normal((40, 50))
    assert KMeans(k=256).quantize(QuantizerInput("w", weight)).symbols.dtype == np.uint8
    assert KMeans(k=257).quantize(QuantizerInput("w", weight)).symbols.dtype == np.uint16


def test_vectors_beat_scalars_at_one_bit_and_a_half_on_correlated_weights():
    weight = np.repeat(normal((60, 100)), 2, axis=1) + 0.1 * normal((60, 200), 1)
    assert mse(ProductKMeans(dim=2, k=16), weight) < 0.5 * mse(KMeans(k=4), weight)


def test_vector_quantizer_reaches_the_known_gaussian_distortion():
    assert mse(ProductKMeans(dim=2, k=16), normal((300, 400))) < 0.113  # 2 bits: Lloyd-Max has 0.1175


def test_columns_that_dim_does_not_divide_fold_the_flat_tensor():
    tensor = ProductKMeans(dim=4, k=8).quantize(QuantizerInput("w", normal((3, 7))))
    assert tensor.symbols.shape == (1, 6)
    assert tensor.dequantize().shape == (3, 7)


def test_kmeans_with_a_mask_spends_its_other_entries_on_the_kept_weights():
    weight = normal((50, 40))
    keep = np.random.default_rng(0).random(weight.shape) < 0.3
    tensor = KMeans(k=16).quantize(QuantizerInput("w", weight, None, None, keep))
    assert len(tensor.grid.table) == 16
    error = np.square(tensor.dequantize() - weight)[keep].mean()
    assert error == pytest.approx(mse(KMeans(k=15), weight[keep][None]), rel=0.2)


def test_too_small_a_table_for_the_mask_patterns_is_refused():
    weight = normal((50, 40))
    keep = np.random.default_rng(0).random(weight.shape) < 0.5
    with pytest.raises(RecipeError, match=r"mlp\.fc.*16 mask patterns"):
        ProductKMeans(dim=4, k=8).quantize(QuantizerInput("mlp.fc", weight, None, None, keep))


def test_a_level_beyond_fp16_is_refused():
    with pytest.raises(CheckpointError, match="exceeds fp16"):
        KMeans().quantize(QuantizerInput("w", 1e6 * normal((5, 5))))


def test_nf4_levels_are_those_of_the_paper():
    levels = nf4_levels().astype(np.float64)
    published = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]  # arXiv:2305.14314, App. E
    published += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]
    assert np.allclose(levels, published, atol=3e-4)


def test_nf4_beats_uniform_four_bits_on_gaussian_groups():
    weight = normal((64, 512))
    assert mse(Nf4(64), weight) < 0.9 * mse(Rtn(4, 64), weight)


def test_ternary_thresholds_at_half_the_mean():
    weight = np.array([[1.0, -1.0, 0.4, -0.2, 0.9, 0.0, -0.5, 0.0]], np.float32)  # mean |w| = 0.5
    tensor = Ternary(group=8).quantize(QuantizerInput("w", weight))
    assert tensor.symbols.tolist() == [[1, -1, 1, 0, 1, 0, -1, 0]]
    assert tensor.grid.scales.tolist() == [[0.5]]


def test_ternary_mean_counts_kept_weights_only():
    weight = np.array([[1.0, -1.0, 0.25, 0.25]], np.float32)
    keep = np.array([[True, True, False, False]])
    decoded = Ternary(group=4).quantize(QuantizerInput("w", weight, None, None, keep)).dequantize()
    assert decoded.tolist() == [[1.0, -1.0, 0.0, 0.0]]


def test_binary_scale_is_the_least_squares_one():
    weight = normal((8, 64))
    tensor = Binary(group=0).quantize(QuantizerInput("w", weight))
    assert set(np.unique(tensor.symbols)) == {-1, 1}
    signs = tensor.symbols.astype(np.float64)
    best = (signs * weight).sum(axis=1) / (signs * signs).sum(axis=1)
    assert np.allclose(tensor.grid.scales[:, 0], best, rtol=1e-3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: KMeans(k=1),
        lambda: KMeans(k=65537),
        lambda: KMeans(seed=-1),
        lambda: ProductKMeans(dim=3),
        lambda: ProductKMeans(k=0),
        lambda: Nf4(group=-1),
        lambda: Ternary(group=-1),
        lambda: Binary(group=-1),
    ],
)
def test_settings_out_of_range_are_recipe_errors(build):
    with pytest.raises(RecipeError, match="must be"):
        build()
