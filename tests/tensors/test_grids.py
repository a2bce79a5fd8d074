"""Grids decode by their law, survive storage, and refuse what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgpack.errors import FormatError
from pgpack.tensors.grids import Codebook, MeanScaled, QuantizedTensor, UniformGrid, grid_from_parts
from pgpack.tensors.raw_values import RAW_DTYPES, RawValues
from pgpack.tensors.record import Record, ordered_product
from tests.contracts.check_quantizers import check_grid

NONE = np.zeros((0, 0), np.float16)


@given(
    symbols=hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)),
    group=st.integers(0, 10),
)
@settings(max_examples=60, deadline=None)
def test_uniform_value_is_scale_of_its_group_times_symbol(symbols, group):
    rows, cols = symbols.shape
    n_groups = -(-cols // group) if group else 1
    scales = np.random.default_rng(0).random((rows, n_groups)).astype(np.float16)
    grid = UniformGrid(scales, group)
    check_grid(grid, symbols)
    values = grid.dequantize(symbols)
    for r in range(rows):
        for c in range(cols):
            assert values[r, c] == np.float32(symbols[r, c]) * np.float32(scales[r, c // group if group else 0])


def test_uniform_takes_one_scale_for_the_whole_tensor():
    grid = UniformGrid(np.array([[0.5]], np.float16))
    symbols = np.arange(-3, 3, dtype=np.int8).reshape(2, 3)
    check_grid(grid, symbols)
    assert np.array_equal(grid.dequantize(symbols), symbols * 0.5)


@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("scaled", [False, True])
def test_codebook_lays_vectors_along_the_row(d, scaled):
    rng = np.random.default_rng(d)
    table = rng.standard_normal((11, d)).astype(np.float16)
    symbols = rng.integers(0, 11, (3, 7)).astype(np.uint8)
    scales = rng.random((3, 3)).astype(np.float16) if scaled else NONE
    grid = Codebook(table, scales, 3 if scaled else 0)
    check_grid(grid, symbols)
    values = grid.dequantize(symbols)
    for r in range(3):
        for c in range(7):
            scale = np.float32(scales[r, c // 3]) if scaled else np.float32(1)
            expected = table[symbols[r, c]].astype(np.float32) * scale
            assert np.array_equal(values[r, c * d : c * d + d], expected)


@pytest.mark.parametrize("dtype", RAW_DTYPES)
def test_raw_values_are_their_own_bit_patterns(dtype):
    values = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    grid = RawValues(dtype)
    symbols = grid.symbols_of(values)
    assert symbols.dtype == np.dtype(RAW_DTYPES[dtype])
    check_grid(grid, symbols)
    assert np.array_equal(grid.dequantize(symbols), values)


@given(hnp.arrays(np.float32, 6, elements=st.floats(-(2.0**127), 2.0**127, width=32)))
@settings(max_examples=60, deadline=None)
def test_bf16_rounds_as_torch_does(values):
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16).float().numpy()
    grid = RawValues("bf16")
    assert np.array_equal(grid.dequantize(grid.symbols_of(values)), expected)


def test_a_quantized_tensor_crops_the_padding_of_its_last_row():
    tensor = QuantizedTensor(
        np.arange(8, dtype=np.int8).reshape(2, 4), UniformGrid(np.ones((2, 1), np.float16)), (3, 2)
    )
    assert tensor.dequantize().tolist() == [[0, 1], [2, 3], [4, 5]]


def tensor(symbols, grid, shape):
    return QuantizedTensor(np.asarray(symbols), grid, shape)


ONE = UniformGrid(np.ones((1, 1), np.float16))


@pytest.mark.parametrize(
    "fault",
    [
        lambda: RawValues("fp7"),
        lambda: UniformGrid(np.ones(3, np.float16)),
        lambda: UniformGrid(np.ones((1, 1), np.float64)),
        lambda: UniformGrid(np.ones((1, 1), np.float16), -1),
        lambda: ONE.dequantize(np.zeros(3, np.int8)),
        lambda: UniformGrid(np.ones((2, 1), np.float16)).dequantize(np.zeros((3, 4), np.int8)),
        lambda: UniformGrid(np.ones((3, 2), np.float16), 4).dequantize(np.zeros((3, 4), np.int8)),
        lambda: Codebook(np.ones((4, 1), np.float16), NONE).dequantize(np.full((1, 1), 4, np.uint8)),
        lambda: Codebook(np.ones(4, np.float16), NONE).dequantize(np.zeros((1, 1), np.uint8)),
        lambda: grid_from_parts("log", {}, {}),
        lambda: grid_from_parts("uniform", {"step": 1}, {"scales": ONE.scales}),
        lambda: grid_from_parts("uniform", {}, {}),
        lambda: tensor(np.zeros((1, 3), np.int8), ONE, (2, 2)).dequantize(),
        lambda: Record("w", (1, 1), "corrected", (tensor(np.zeros((1, 1), np.int8), ONE, (1, 1)),)),
        lambda: ordered_product(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)),
    ],
)
def test_what_does_not_fit_is_a_format_error(fault):
    with pytest.raises(FormatError):
        fault()


def test_forms_join_their_parts():
    a = tensor([[1], [2]], UniformGrid(np.ones((2, 1), np.float16)), (2, 1))
    b = tensor([[3, 4, 5]], ONE, (1, 3))
    q = tensor(np.ones((2, 3), np.int8), ONE, (2, 3))
    product = np.array([[3, 4, 5], [6, 8, 10]])
    assert np.array_equal(Record("w", (2, 3), "factored", (a, b)).dequantize(), product)
    assert np.array_equal(Record("w", (2, 3), "corrected", (q, a, b)).dequantize(), product + 1)
    assert np.array_equal(Record("w", (2, 3, 1), "corrected", (q, a, b)).dequantize()[:, :, 0], product + 1)


@given(hnp.arrays(np.float32, 8, elements=st.floats(-448, 448, width=32)))
@settings(max_examples=60, deadline=None)
def test_fp8_rounds_as_torch_does(values):
    expected = torch.from_numpy(values.copy()).to(torch.float8_e4m3fn)
    grid = RawValues("fp8")
    symbols = grid.symbols_of(values)
    assert np.array_equal(symbols, expected.view(torch.uint8).numpy())
    assert np.array_equal(grid.dequantize(symbols), expected.float().numpy(), equal_nan=True)


def test_every_code_of_fp8_means_what_torch_says_and_ties_go_to_the_even_one():
    codes = np.arange(256, dtype=np.uint8)
    values = RawValues("fp8").dequantize(codes)
    assert np.array_equal(values, torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy(), equal_nan=True)
    finite = np.sort(values[np.isfinite(values)])
    halfway = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    expected = torch.from_numpy(halfway).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    assert np.array_equal(RawValues("fp8").symbols_of(halfway), expected)


def test_a_mean_scaled_grid_gives_groups_the_mean_magnitude_that_was_stored():
    symbols = np.array([[1, 0, -1, 0, 1, 1, -1], [0, 0, 0, 0, 0, 1, 0]], np.int8)
    scales = np.array([[0.5, 0.25], [0.5, 2.0]], np.float16)
    values = MeanScaled(scales, 4).dequantize(symbols)
    assert np.allclose(values, [[1, 0, -1, 0, 1 / 3, 1 / 3, -1 / 3], [0, 0, 0, 0, 0, 8, 0]])
    check_grid(MeanScaled(scales, 4), symbols)
    for wrong in (MeanScaled(scales, 3), MeanScaled(scales, 0), MeanScaled(scales[0], 4), MeanScaled(scales, True)):
        with pytest.raises(FormatError):
            wrong.dequantize(symbols)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_the_mean_magnitude_of_a_group_holds_the_largest_symbols(dtype: type[np.signedinteger]) -> None:
    low = int(np.iinfo(dtype).min)
    symbols = np.full((1, 8), low, dtype)
    grid = MeanScaled(np.array([[3.0]], np.float32), 8)
    assert np.array_equal(grid.dequantize(symbols), np.full((1, 8), -3.0, np.float32))
