"""What quantizers are given of a calibration: whether it covers a recipe, in the recipe's order, matrix by matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.checkpoint.mlp_order import Permutation, mlp_permutations, ordered_checkpoint
from pgpack.errors import CalibrationError
from pgpack.quantizers.base import QuantizerInput
from pgpack.recipe.applied import Applied, AppliedTensor
from pgpack.tables import counted

from .calibration import Calibration


def require_coverage(applied: Applied, calibration: Calibration | None) -> None:
    """Every tensor whose policy needs a Hessian has one of the right size. Raises CalibrationError: never silent."""
    needy = applied.needs_hessian
    if calibration is None:
        if needy:
            raise CalibrationError(
                f"the recipe needs Hessians for {counted(len(needy), 'tensor')} (first: {needy[0]}); give "
                "--calibration FILE, or text to calibrate on with --calib GLOB and a model"
            )
        return
    calibration.require(needy)
    correcting = applied.corrects_rows
    if correcting and all(f"{name}.output" not in calibration.shapes for name in correcting):
        raise CalibrationError(
            f"the recipe lets rows correct each other ({correcting[0]}, group > 0), and the calibration holds no "
            "NAME.output, the second moments of output gradients; calibrate again with --outputs, or leave group out"
        )
    for name in needy:
        found = calibration.hessian_shape(name)
        n_inputs = applied.tensors[name].matrix_shape(found)[1]
        if found not in ((n_inputs, n_inputs), (n_inputs,)):
            raise CalibrationError(
                f"{name} has {n_inputs} inputs and its Hessian is {found}; this calibration is of another model"
            )


def in_order(
    checkpoint: Checkpoint, calibration: Calibration | None, by: str
) -> tuple[Checkpoint, Calibration | None]:
    """Both with the MLP hidden units in the order that @order asks for; as they are where `by` is none."""
    if by == "none":
        return checkpoint, calibration
    permutations = mlp_permutations(checkpoint)
    ordered = _ordered(calibration, permutations) if calibration else None
    return ordered_checkpoint(checkpoint, permutations), ordered


def _ordered(calibration: Calibration, permutations: Mapping[str, tuple[int, Permutation]]) -> Calibration:
    def load(key: str) -> NDArray[np.float32]:
        array = calibration.load(key)
        name, _, kind = key.rpartition(".")
        axis, permutation = permutations.get(name, (-1, np.empty(0, np.intp)))
        if (kind, axis) in (("hessian", 1), ("output", 0)):
            return array[np.ix_(permutation, permutation)] if array.ndim == 2 else array[permutation]
        return array[permutation] if kind == "fisher" and axis == 0 else array

    return dataclasses.replace(calibration, load=load)


def quantizer_input(
    tensor: AppliedTensor, weight: NDArray[Any], calibration: Calibration | None = None
) -> QuantizerInput:
    """The matrix of a tensor and what is known about it; a policy that needs no Hessian does not pay for one."""
    name = tensor.name
    if calibration is None or not tensor.policy.needs_hessian:
        return QuantizerInput(name, weight.reshape(tensor.matrix_shape()))
    lookup_hessian, lookup_fisher = calibration.lookup(name)
    return QuantizerInput(
        name,
        weight.reshape(tensor.matrix_shape(calibration.hessian_shape(name))),
        calibration.hessian(name),
        calibration.fisher(name),
        lookup_hessian=lookup_hessian,
        lookup_fisher=lookup_fisher,
        outputs=calibration.output(name) if tensor.policy.quantizer.corrects_rows else None,
    )
