"""What every quantizer asks of its input, so that all of them refuse in the same words, which name the tensor.

A matrix that is not finite raises CheckpointError, a Hessian that is missing or does not fit CalibrationError.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CalibrationError, CheckpointError, RecipeError
from pgpack.tensors.grids import QuantizedTensor, UniformGrid

from .base import Matrix, QuantizerInput

FP16_MAX = 65504.0


def finite_weight(source: QuantizerInput) -> Matrix:
    """The matrix as float32, masked weights included. Raises CheckpointError on NaN or infinity."""
    weight = np.asarray(source.weight, dtype=np.float32)
    if not np.isfinite(weight).all():
        bad = int(weight.size - np.isfinite(weight).sum())
        raise CheckpointError(
            f"{source.name}: {bad} of {weight.size} weights are NaN or infinite; repair the checkpoint first"
        )
    return weight


def masked_weight(source: QuantizerInput) -> Matrix:
    """`finite_weight` with 0 wherever `keep` is False; the input itself when nothing is masked."""
    weight = finite_weight(source)
    if source.keep is None:
        return weight
    masked: Matrix = np.where(source.keep, weight, np.float32(0))
    return masked


def refuse_mask(source: QuantizerInput, why: str) -> None:
    """Nothing. Raises RecipeError, which says `why`, when an outer transform pruned the matrix."""
    if source.keep is not None:
        raise RecipeError(f"{source.name}: {why}")


def checked_hessian(source: QuantizerInput, stage: str) -> NDArray[np.float32]:
    """The Hessian. Shape: (in, in), or (in,) of a diagonal one.

    Raises CalibrationError when it is missing, misshapen or not finite.
    """
    cols = source.weight.shape[1]
    if source.hessian is None:
        raise CalibrationError(
            f"{source.name}: {stage} needs a Hessian of shape {(cols, cols)} and the calibration has none; "
            "calibrate this tensor or give it a quantizer that works without"
        )
    if source.hessian.shape not in ((cols, cols), (cols,)):
        raise CalibrationError(
            f"{source.name}: {stage} needs a Hessian of shape {(cols, cols)}, found {source.hessian.shape}"
        )
    if not np.isfinite(source.hessian).all():
        raise CalibrationError(f"{source.name}: the Hessian holds NaN or infinity; calibrate again")
    return source.hessian


def fp16_values(name: str, values: NDArray[np.floating]) -> NDArray[np.float16]:
    """Non-negative steps or signed table entries as stored. Raises CheckpointError when one overflows fp16."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest >= 65520.0:  # what rounds to infinity
        raise CheckpointError(
            f"{name}: a step or level of {largest:.4g} exceeds fp16 ({FP16_MAX:.0f}); "
            "store this tensor with cast(dtype=fp32)"
        )
    return values.astype(np.float16)


def divisors(scales: NDArray[np.float16]) -> NDArray[np.float32]:
    """Stored scales as float32 divisors: a scale of 0 becomes infinity, so its weights get the symbol 0."""
    wide = scales.astype(np.float32)
    return np.where(wide > 0, wide, np.float32(np.inf))


def per_column(per_group: NDArray[np.float32], group: int, cols: int) -> NDArray[np.float32]:
    """(rows, n_groups) spread to (rows, cols), or left as (rows, 1) when one group spans the row."""
    if per_group.shape[1] <= 1:
        return per_group
    spread: NDArray[np.float32] = np.repeat(per_group, group, axis=1)[:, :cols]
    return spread


def group_starts(cols: int, group: int) -> list[tuple[int, int]]:
    """(start, stop) of each group of columns; one empty group when there are no columns and no grouping."""
    if not group:
        return [(0, cols)]
    return [(start, min(start + group, cols)) for start in range(0, cols, group)]


def by_group(weight: Matrix, group: int, law: Callable[[Matrix, slice], NDArray[np.float32]]) -> NDArray[np.float32]:
    """What `law` gives each row of a group, from the group's columns and where they stand. Shape: (out, n_groups)."""
    columns = [slice(*ends) for ends in group_starts(weight.shape[1], group)]
    parts = [law(weight[:, each], each) for each in columns]
    return np.stack(parts, axis=1) if parts else np.zeros((len(weight), 0), dtype=np.float32)


def round_to_grid(
    weight: Matrix,
    scales: NDArray[np.float16],
    group: int,
    limits: tuple[int, int],
    keep: NDArray[np.bool_] | None = None,
) -> QuantizedTensor:
    """Nearest point of a uniform grid for each weight, ties to even, clipped to `limits`."""
    symbols = weight / per_column(divisors(scales), group, weight.shape[1])
    np.rint(symbols, out=symbols)
    np.clip(symbols, limits[0], limits[1], out=symbols)
    codes = symbols.astype(np.int8)
    if keep is not None:
        codes[~keep] = 0
    return QuantizedTensor(codes, UniformGrid(scales, group), weight.shape)
