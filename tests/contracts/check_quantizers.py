"""The laws of every grid and every quantizer; each plug-in's test calls these and adds its own."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pgpack.errors import CalibrationError, CheckpointError, RecipeError
from pgpack.quantizers import QUANTIZERS
from pgpack.quantizers.base import Encoding, Quantizer, QuantizerInput
from pgpack.stages import parse_stage, stage_text
from pgpack.tensors.base import Grid
from pgpack.tensors.grids import QuantizedTensor, UniformGrid, grid_from_parts
from pgpack.tensors.record import Record

SHAPES = [(1, 1), (1, 7), (7, 1), (0, 5), (5, 0), (3, 130), (20, 64), (65, 33)]


def check_grid(grid: Grid, symbols: np.ndarray) -> None:
    """Params survive JSON, arrays are little-endian, the rebuilt grid decodes to the same bits, inputs stay."""
    before = symbols.copy()
    values = grid.dequantize(symbols)
    params = json.loads(json.dumps(grid.params))
    for array in grid.arrays.values():
        assert array.dtype.newbyteorder("<") == array.dtype
    rebuilt = grid_from_parts(grid.kind, params, {k: v.copy() for k, v in grid.arrays.items()})
    again = rebuilt.dequantize(symbols)
    assert again.dtype == values.dtype
    assert again.tobytes() == values.tobytes()
    assert np.array_equal(symbols, before)


def hessian_of(cols: int, seed: int = 0, tokens: int | None = None) -> np.ndarray:
    """Mean x x^T of correlated inputs whose columns differ in size by a factor of about 10."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((tokens or 4 * cols + 4, cols))
    x = x @ (np.eye(cols) + 0.4 * rng.standard_normal((cols, cols)) / np.sqrt(max(cols, 1)))
    x *= np.exp(rng.uniform(-1.2, 1.2, cols))
    return (x.T @ x / len(x)).astype(np.float32)


def matrices() -> list[tuple[str, np.ndarray]]:
    """Named matrices: every shape, and contents that break careless code."""
    rng = np.random.default_rng(7)
    found = [(f"normal{s}", (0.05 * rng.standard_normal(s)).astype(np.float32)) for s in SHAPES]
    base = rng.standard_normal((6, 40)).astype(np.float32)
    rows = base.copy()
    rows[2] = 0.0
    rows[4] = 0.37
    return [
        *found,
        ("zeros", np.zeros((4, 40), np.float32)),
        ("constant", np.full((4, 40), -0.25, np.float32)),
        ("constant rows", rows),
        ("large", base * np.float32(3e4 / np.abs(base).max())),
        ("small", base * np.float32(1e-3)),
        ("vanishing", base * np.float32(1e-30)),
        ("outlier", np.where(np.arange(40) == 3, np.float32(100), base)),
    ]


def source_of(name: str, weight: np.ndarray, keep: np.ndarray | None = None) -> QuantizerInput:
    return QuantizerInput(name, weight, hessian_of(weight.shape[1]), np.ones(len(weight), np.float32), keep)


def check_quantizer(quantizer: Quantizer, *, masks: bool = True) -> None:
    """Shape, dtype, finiteness, determinism, an untouched input, exact zeros under a mask, clear refusals, and what
    the quantizer declares of itself."""
    for name, weight in matrices():
        source = source_of(name, weight)
        frozen = weight.copy(), source.hessian.copy()
        tensor = quantizer.quantize(source)
        assert np.array_equal(weight, frozen[0]), name
        assert np.array_equal(source.hessian, frozen[1]), name
        _check_tensor(tensor, weight, name)
        again = quantizer.quantize(source)
        assert again.symbols.tobytes() == tensor.symbols.tobytes(), name
        assert again.dequantize().tobytes() == tensor.dequantize().tobytes(), name
        keep = np.random.default_rng(3).random(weight.shape) < 0.6
        if masks:
            _check_mask(quantizer, name, weight, keep)
        else:
            with pytest.raises(RecipeError, match="prun"):
                quantizer.quantize(source_of(name, weight, keep))
    _check_refusals(quantizer)
    _check_declared(quantizer)
    _check_text(quantizer)


def _check_tensor(tensor: QuantizedTensor, weight: np.ndarray, name: str) -> None:
    decoded = tensor.dequantize()
    assert tensor.shape == weight.shape == decoded.shape, name
    assert decoded.dtype == np.float32, name
    assert np.isfinite(decoded).all(), name
    assert np.issubdtype(tensor.symbols.dtype, np.integer), name
    check_grid(tensor.grid, tensor.symbols)
    if isinstance(tensor.grid, UniformGrid):
        assert tensor.symbols.dtype == np.int8, name


def _check_mask(quantizer: Quantizer, name: str, weight: np.ndarray, keep: np.ndarray) -> None:
    for mask in (keep, np.zeros_like(keep), np.ones_like(keep)):
        before = mask.copy()
        decoded = quantizer.quantize(source_of(name, weight, mask)).dequantize()
        assert np.array_equal(mask, before), name
        assert not decoded[~mask].any(), name
        assert np.isfinite(decoded).all(), name


def _check_refusals(quantizer: Quantizer) -> None:
    rng = np.random.default_rng(0)
    source = source_of("blocks.3.weight", rng.standard_normal((4, 6)).astype(np.float32))
    for bad in (np.nan, np.inf, -np.inf):
        broken = source.weight.copy()
        broken[1, 2] = bad
        with pytest.raises(CheckpointError, match=r"blocks\.3\.weight"):
            quantizer.quantize(replace(source, weight=broken))
    if not quantizer.needs_hessian:
        without = quantizer.quantize(replace(source, hessian=None))
        assert without.symbols.tobytes() == quantizer.quantize(source).symbols.tobytes()
        return
    assert source.hessian is not None
    poisoned = source.hessian.copy()
    poisoned[0, 0] = np.nan
    for hessian in (None, source.hessian[:5, :5], poisoned):
        with pytest.raises(CalibrationError, match=r"blocks\.3\.weight"):
            quantizer.quantize(replace(source, hessian=hessian))


def _check_declared(quantizer: Quantizer) -> None:
    """`bits` bounds the symbols, and output moments change nothing where they are said to be of no use."""
    rng = np.random.default_rng(1)
    source = source_of("w", rng.standard_normal((12, 24)).astype(np.float32))
    tensor = quantizer.quantize(source)
    if quantizer.bits:
        assert np.abs(tensor.symbols.astype(np.int64)).max() < 1 << quantizer.bits - 1
    gradients = rng.standard_normal((64, 12))
    outputs = (gradients.T @ gradients / 64).astype(np.float32)
    corrected = quantizer.quantize(replace(source, outputs=outputs))
    assert quantizer.corrects_rows != np.array_equal(corrected.symbols, tensor.symbols)


def _check_text(quantizer: Quantizer) -> None:
    name = {cls: key for key, cls in QUANTIZERS.items()}[type(quantizer)]
    for full in (False, True):
        assert parse_stage(stage_text(name, quantizer, full=full), QUANTIZERS) == quantizer


def decoded(encoding: Encoding, shape: tuple[int, ...]) -> np.ndarray:
    """The matrix that a decoder gets from `encoding`."""
    return Record("w", shape, encoding.form, encoding.parts).dequantize()
