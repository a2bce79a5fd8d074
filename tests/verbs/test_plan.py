"""A plan with a calibration shows the allocation that packing will use, and no symbol is chosen for it."""

from __future__ import annotations

import numpy as np
import pytest

from pgpack.calibration.calibration import from_arrays
from pgpack.calibration.coverage import covered
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.codecs import CODERS
from pgpack.errors import CalibrationError
from pgpack.pack import pack_applied, quantize
from pgpack.plan import plan
from pgpack.quantizers.tcq import Tcq
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import parse_recipe

ROWS, COLUMNS = 192, 96


@pytest.fixture(scope="module")
def checkpoint():
    rng = np.random.default_rng(0)
    scales = np.exp2(rng.uniform(-1, 1, ROWS))[:, None] * np.exp2(rng.uniform(-1, 1, COLUMNS))
    arrays = {"w": rng.standard_normal((ROWS, COLUMNS)) * scales, "g": np.ones(COLUMNS)}
    return from_tensors({name: array.astype(np.float32) for name, array in arrays.items()})


@pytest.fixture(scope="module")
def calibration():
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((1024, COLUMNS)) * np.exp2(rng.uniform(-2, 2, COLUMNS))
    hessian = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    fisher = np.exp2(rng.uniform(-2, 2, ROWS)).astype(np.float32)
    return from_arrays({"w.hessian": hessian, "w.fisher": fisher}, "digest", 1024)


def recipe(step):
    return parse_recipe(f"ndim<=1=cast; *=tcq(step={step})|rans_scaled(states=8)")


@pytest.mark.parametrize("step", [2.0, 0.5, 0.125])
def test_the_planned_allocation_is_the_grid_of_packing_and_its_bits_are_near_the_coders(
    checkpoint, calibration, step
):
    planned = {tensor.name: tensor for tensor in plan(checkpoint, recipe(step), calibration).tensors}
    assert planned["g"].allocation is None
    allocation = planned["w"].allocation
    assert allocation is not None
    applied = apply(recipe(step), checkpoint.stored_shapes)
    part = quantize(checkpoint, applied, calibration).records[0].parts[0]
    assert allocation.step == part.grid.step
    assert allocation.columns == (part.grid.columns.min() / 8, part.grid.columns.max() / 8)
    assert allocation.rows == (part.grid.rows.min() / 8, part.grid.rows.max() / 8)
    coded = float(CODERS["rans_scaled"](states=8).ideal_bits([part.symbols])[0])
    assert planned["w"].ideal_bits == allocation.ideal_bits == pytest.approx(coded, rel=0.1)


def test_no_trellis_is_walked_for_a_plan(checkpoint, calibration, monkeypatch):
    monkeypatch.setattr(Tcq, "quantize", None)
    assert plan(checkpoint, recipe(0.5), calibration).tensors[0].allocation is not None


def test_without_calibration_and_behind_transforms_there_is_no_allocation(checkpoint, calibration):
    assert plan(checkpoint, recipe(0.5)).tensors[0].allocation is None
    behind = parse_recipe("ndim<=1=cast; *=lqer(rank=4)|tcq(step=0.5)|rans")
    assert plan(checkpoint, behind, calibration).tensors[0].allocation is None


def test_without_calibration_no_number_is_given_for_tcq(checkpoint, calibration):
    for text in ("*=tcq(step=0.5)|rans", "*=lqer(rank=4)|tcq(step=0.5)|rans"):
        planned = plan(checkpoint, parse_recipe(f"ndim<=1=cast; {text}"))
        assert [tensor.ideal_bits is None for tensor in planned.tensors] == [True, False]
        assert planned.ideal_bits is None
    behind = parse_recipe("ndim<=1=cast; *=lqer(rank=4)|tcq(step=0.5)|rans")
    assert plan(checkpoint, behind, calibration).ideal_bits is None
    assert plan(checkpoint, parse_recipe("*=gptq|rans")).ideal_bits is not None


@pytest.mark.parametrize("step", [2e-4, 1e-4, 3e-5])
def test_the_plan_of_packing_without_text_is_near_what_it_takes(checkpoint, step):
    whole = covered(checkpoint, recipe(step), None)
    planned = plan(checkpoint, whole.applied.recipe, whole.calibration)
    measured = pack_applied(checkpoint, whole.applied, whole.calibration).report.tensors["w"]
    assert planned.tensors[0].ideal_bits / 8 == pytest.approx(measured, rel=0.15)


def test_a_calibration_of_another_model_is_refused(checkpoint, calibration):
    with pytest.raises(CalibrationError, match="lacks a Hessian"):
        plan(checkpoint, recipe(0.5), from_arrays({}, "digest", 1))
    small = from_arrays({"w.hessian": np.eye(3, dtype=np.float32), "w.fisher": np.ones(ROWS, np.float32)}, "d", 1)
    with pytest.raises(CalibrationError, match="another model"):
        plan(checkpoint, recipe(0.5), small)


@pytest.mark.parametrize("mask", [np.float32(-np.inf), np.triu(np.full((8, 8), -np.inf, np.float32), 1)], ids=str)
@pytest.mark.parametrize(
    "text", ["*=cast(dtype=fp16)|raw", "*=tcq(step=0.1)|rans_scaled(states=8)", "*=rtn(bits=4)|rans"]
)
def test_a_mask_is_planned_as_it_is_packed(mask, text):
    arrays = {"w": np.ones((8, 8), np.float32), "mask": np.asarray(mask)}
    rows = {tensor.name: tensor for tensor in plan(from_tensors(arrays), parse_recipe(text)).tensors}
    assert rows["mask"].ideal_bits == 8 * arrays["mask"].nbytes
