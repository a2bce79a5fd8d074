"""cast, rtn, rtn_percentile, rtn_mse and sdclip."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgpack.errors import CheckpointError, RecipeError
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.cast import Cast
from pgpack.quantizers.uniform import Rtn, RtnMse, RtnPercentile, SdClip, row_quantile
from tests.contracts.check_quantizers import check_quantizer

EVERY = [
    Cast("fp32"),
    Cast("bf16"),
    Cast("fp16"),
    Rtn(),
    Rtn(bits=2),
    Rtn(bits=4, group=32),
    Rtn(bits=6, group=1),
    RtnPercentile(),
    RtnPercentile(bits=4, percentile=99, scale_floor=False),
    RtnMse(grid=8),
    RtnMse(bits=3, group=16, grid=8),
    SdClip(),
    SdClip(bits=4, clip=3.0, group=20),
]


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_contract(quantizer):
    check_quantizer(quantizer)


def normal(shape, seed=0, std=0.03):
    return (std * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def squared_error(quantizer, weight):
    return float(np.square(quantizer.quantize(QuantizerInput("w", weight)).dequantize() - weight).sum())


def test_cast_fp32_is_bit_exact():
    weight = normal((9, 5))
    assert Cast("fp32").quantize(QuantizerInput("w", weight)).dequantize().tobytes() == weight.tobytes()


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_casts_round_as_torch_does(dtype, torch_dtype):
    weight = normal((40, 50), std=1.0)
    expected = torch.from_numpy(weight).to(torch_dtype).float().numpy()
    assert np.array_equal(Cast(dtype).quantize(QuantizerInput("w", weight)).dequantize(), expected)


@pytest.mark.parametrize(("dtype", "value"), [("fp16", 65505.0), ("bf16", 3.4e38)])
def test_cast_refuses_what_its_dtype_cannot_hold(dtype, value):
    with pytest.raises(CheckpointError, match=r"lm_head.*exceeds"):
        Cast(dtype).quantize(QuantizerInput("lm_head", np.full((1, 1), value, np.float32)))


@pytest.mark.parametrize("quantizer", [Rtn(), RtnPercentile(), RtnMse(), SdClip()], ids=repr)
def test_a_step_beyond_fp16_is_refused(quantizer):
    weight = normal((3, 50), std=1e8)
    with pytest.raises(CheckpointError, match="exceeds fp16"):
        quantizer.quantize(QuantizerInput("w", weight))


@given(
    weight=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1e3, 1e3, width=32)
    ),
    bits=st.integers(2, 8),
    group=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_rounding_errs_by_half_a_stored_step_inside_the_clip(weight, bits, group):
    for quantizer in (Rtn(bits, group), SdClip(bits, 3.0, group)):
        tensor = quantizer.quantize(QuantizerInput("w", weight))
        cols = weight.shape[1]
        step = np.repeat(tensor.grid.scales.astype(np.float64), group or cols, axis=1)[:, :cols]
        outside = np.maximum(np.abs(weight) - (2 ** (bits - 1) - 1) * step, 0)
        error = np.abs(tensor.dequantize() - weight.astype(np.float64))
        assert (error <= step * 0.5 * (1 + 1e-5) + outside + 1e-30).all()


@given(bits=st.integers(2, 8), group=st.integers(0, 40), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_mse_search_is_never_worse_than_rtn(bits, group, seed):
    weight = np.random.default_rng(seed).standard_t(3, (12, 37)).astype(np.float32)
    assert squared_error(RtnMse(bits, group, 20), weight) <= squared_error(Rtn(bits, group), weight) * (1 + 1e-6)


def test_mse_search_pays_at_three_bits():
    weight = normal((50, 300))
    assert squared_error(RtnMse(3), weight) < 0.75 * squared_error(Rtn(3), weight)


def test_sdclip_error_of_a_gaussian_is_the_step_over_root_twelve():
    weight = normal((64, 1024))
    relative = np.sqrt(squared_error(SdClip(), weight) / np.square(weight, dtype=np.float64).sum())
    assert relative == pytest.approx(12.85 / 31 / np.sqrt(12), rel=0.005)  # the field measures 11.97 %


def test_sdclip_scales_equal_the_torch_law():
    weight = normal((300, 512), seed=5)
    expected = (12.85 * torch.from_numpy(weight).std(dim=1) / 31).clamp_min(1e-10).to(torch.float16)
    scales = SdClip().quantize(QuantizerInput("w", weight)).grid.scales[:, 0]
    assert (scales == expected.numpy()).mean() > 0.99  # a last-bit tie may fall either way
    assert np.allclose(scales, expected.numpy(), rtol=1e-3)


def test_constant_row_survives_sdclip():
    weight = np.full((2, 30), 0.5, np.float32)
    assert np.allclose(SdClip().quantize(QuantizerInput("w", weight)).dequantize(), 0.5, rtol=1e-3)


def torch_baseline(weight):
    """The challenge baseline's law, restated in torch."""
    t = torch.from_numpy(weight)
    clip = torch.quantile(t.abs(), 99.99984 / 100.0, dim=1)[:, None]
    step = (clip / 127.0).clamp_min(1.0 / 127.0)
    q = torch.round(torch.minimum(torch.maximum(t, -clip), clip) / step).clamp(-127, 127)
    return q.to(torch.int8).numpy(), step.to(torch.float16).numpy()


@pytest.mark.parametrize("cols", [2, 17, 512, 1024, 2048])
@pytest.mark.parametrize("std", [0.02, 0.3, 4.0])
def test_percentile_agrees_exactly_with_the_baseline(cols, std):
    weight = normal((200, cols), seed=cols, std=std)
    tensor = RtnPercentile().quantize(QuantizerInput("w", weight))
    symbols, scales = torch_baseline(weight)
    assert np.array_equal(tensor.symbols, symbols)
    assert np.array_equal(tensor.grid.scales, scales)


@pytest.mark.parametrize("q", [0.25, 0.5, 0.9, 0.9999984, 1.0])
def test_row_quantile_is_torch_quantile(q):
    magnitudes = np.abs(normal((300, 333), std=1.0))
    expected = torch.quantile(torch.from_numpy(magnitudes), q, dim=1).numpy()
    assert np.array_equal(row_quantile(magnitudes, q), expected)


def test_scale_floor_is_the_baseline_s_lower_limit():
    weight = normal((3, 100), std=0.001)
    floored = RtnPercentile(bits=6).quantize(QuantizerInput("w", weight))
    assert (floored.grid.scales == np.float16(1 / 31)).all()
    assert not floored.symbols.any()
    free = RtnPercentile(bits=6, scale_floor=False).quantize(QuantizerInput("w", weight))
    assert np.abs(free.symbols).max() == 31


@pytest.mark.parametrize(
    "build",
    [
        lambda: Cast("fp8"),
        lambda: Rtn(bits=9),
        lambda: Rtn(bits=1),
        lambda: Rtn(group=-1),
        lambda: RtnPercentile(percentile=0),
        lambda: RtnPercentile(percentile=101),
        lambda: RtnMse(grid=0),
        lambda: SdClip(clip=0),
        lambda: SdClip(clip=float("nan")),
    ],
)
def test_settings_out_of_range_are_recipe_errors(build):
    with pytest.raises(RecipeError, match="must be"):
        build()


def test_importing_the_quantizers_loads_neither_torch_nor_scipy():
    code = "import sys, pgpack.quantizers; print(sorted({'torch', 'scipy', 'numba'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
