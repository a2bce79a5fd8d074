"""What a recipe would do to each tensor, and an estimate of its bytes, from the weights alone.

    sampled rows --the tensor's own chain--> symbols --order-0 entropy, or the coder's own cost--> ideal bits

Needs no text: a stage that wants a Hessian gets the identity, under which GPTQ is plain rounding on its own grid.
With a calibration the allocation of trellis-coded matrices is worked out as packing does it, and no symbol is chosen;
without one the bytes of `tcq`, whose step is a loss, are not known and no number is given for them.
An estimate (`ideal_bits`), never a measurement: byte codecs may find more than order-0 entropy or less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.calibration.calibration import Calibration
from pgpack.calibration.inputs import quantizer_input, require_coverage
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.formats.own.companions import packed_size
from pgpack.quantizers.base import Encoding, QuantizerInput
from pgpack.quantizers.chain import quantize_matrix
from pgpack.quantizers.tcq import EIGHTHS, NOISE, TINY, Tcq
from pgpack.recipe.applied import AppliedTensor, apply
from pgpack.recipe.policy import Coding, policy_to_text
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.selector import ToldTensor
from pgpack.tensors.entropy import entropy_bits, order0_bits
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.masks import is_kept
from pgpack.tensors.trellis_grid import TrellisGrid, octaves

from .codecs import BYTE_CODECS

SAMPLE_ROWS = 64
SAMPLE_COLUMNS = 512  # with a Hessian, whose factor costs columns^3


@dataclass(frozen=True)
class Allocation:
    """How a trellis-coded matrix is to spend its bits, from its calibration.

    `step`: the geometric mean of its column steps. `columns`, `rows`: least and largest factor on it. Units: `step`
    in weights, factors in octaves; `ideal_bits` of the symbols and exponents.
    """

    step: float
    columns: tuple[float, float]
    rows: tuple[float, float]
    ideal_bits: float


@dataclass(frozen=True)
class PlannedTensor(ToldTensor):
    """One row of a plan. Units: `ideal_bits` of the whole tensor, side information included (estimate); None where
    only a calibration tells."""

    policy: str
    needs_hessian: bool
    ideal_bits: float | None
    allocation: Allocation | None = None


@dataclass(frozen=True)
class Plan:
    """A recipe applied to a checkpoint on paper. Units: `companion_bytes` what config, tokenizer and others take."""

    recipe: Recipe
    tensors: tuple[PlannedTensor, ...]
    aliases: dict[str, str]
    companion_bytes: int = 0

    @property
    def ideal_bits(self) -> float | None:
        """Estimated bits of all tensors, without header and companions; None where that of one is not known."""
        bits = [tensor.ideal_bits for tensor in self.tensors]
        return None if None in bits else sum(each for each in bits if each is not None)

    @property
    def numel(self) -> int:
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def needs_hessian(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.tensors if tensor.needs_hessian)


def plan(checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None = None) -> Plan:
    """The plan of `recipe` for `checkpoint`; `calibration` adds the allocation of matrices that `tcq` quantizes.

    Raises CoverageError, CheckpointError, RecipeError; CalibrationError when `calibration` does not fit or lacks one.
    """
    applied = apply(recipe, checkpoint.stored_shapes)
    if calibration is not None:
        require_coverage(applied, calibration)
    rows = tuple(_planned(checkpoint, recipe, tensor, calibration) for tensor in applied.tensors.values())
    companion_bytes = 0 if recipe.container.is_field else packed_size(checkpoint.carried)
    return Plan(recipe, rows, dict(checkpoint.aliases), companion_bytes)


def _planned(
    checkpoint: Checkpoint, recipe: Recipe, tensor: AppliedTensor, calibration: Calibration | None
) -> PlannedTensor:
    policy, weight = tensor.policy, checkpoint.tensor(tensor.name)
    allocation = None if calibration is None else _allocation(weight, tensor, calibration)
    bits: float | None = None
    if allocation is not None:
        bits = allocation.ideal_bits
    elif not isinstance(policy.quantizer, Tcq) or is_kept(weight) or not weight.size:
        bits = _tensor_bits(weight, tensor, None if recipe.container.is_field else policy.coding)
    text = policy_to_text(policy)
    return PlannedTensor(tensor.name, tensor.shape, text, policy.needs_hessian, bits, allocation, told=tensor.told)


def _allocation(weight: NDArray[Any], tensor: AppliedTensor, calibration: Calibration) -> Allocation | None:
    """The allocation of one matrix; None when its quantizer is another one, or a transform changes it before."""
    policy = tensor.policy
    if not isinstance(policy.quantizer, Tcq) or policy.transforms or is_kept(weight) or not weight.size:
        return None
    source = quantizer_input(tensor, weight, calibration)
    grid = policy.quantizer.allocation(source).grid
    exponents = entropy_bits(grid.columns) + entropy_bits(grid.rows)
    return Allocation(
        grid.step,
        _extent(grid.columns / EIGHTHS),
        _extent(grid.rows / EIGHTHS),
        trellis_bits(source.weight, grid) + exponents,
    )


def _extent(octave: NDArray[np.floating[Any]]) -> tuple[float, float]:
    return (float(octave.min()), float(octave.max())) if octave.size else (0.0, 0.0)


def trellis_bits(matrix: NDArray[Any], grid: TrellisGrid) -> float:
    """Bits that the symbols of a Gaussian `matrix` take on `grid`: reverse water-filling.

    A weight of variance s^2 costs 1/2 log2(s^2 / D) bits and none below D = NOISE step^2; variances are the product
    of row and column powers. On the 2 M demo within 3 % of what `rans_scaled` needs at 1.0, 2.5 and 4.2 bits.
    """
    steps = grid.step * octaves(grid.columns, EIGHTHS)
    scaled = np.square(matrix / steps)
    if grid.rows.size:
        scaled /= np.square(octaves(grid.rows, EIGHTHS))[:, None]
    columns, rows = scaled.mean(axis=0), scaled.mean(axis=1)
    of_columns = np.log2(np.maximum(columns, TINY) / NOISE)
    of_rows = np.log2(np.maximum(rows, TINY) / max(float(rows.mean()), TINY))
    return sum(0.5 * float(np.maximum(of_columns + of_row, 0).sum()) for of_row in of_rows)


def _tensor_bits(weight: NDArray[Any], tensor: AppliedTensor, coding: Coding | None) -> float:
    """Estimated bits of one tensor: its sampled rows, scaled up. `coding` None: a field container's."""
    if is_kept(weight):
        return 8.0 * weight.nbytes
    if weight.size == 0:
        return 0.0
    policy, matrix = tensor.policy, weight.reshape(tensor.matrix_shape())
    rows = np.unique(np.linspace(0, len(matrix) - 1, min(SAMPLE_ROWS, len(matrix))).astype(np.intp))
    n_columns = SAMPLE_COLUMNS if policy.needs_hessian else matrix.shape[1]
    sample = np.ascontiguousarray(matrix[rows, :n_columns])
    hessian = np.eye(sample.shape[1], dtype=np.float32) if policy.needs_hessian else None
    transforms = tuple(transform.bind(iter([sample])) for transform in policy.transforms)
    source = QuantizerInput(tensor.name, sample, hessian, np.ones(len(sample), np.float32))
    encoding = quantize_matrix(source, transforms, policy.quantizer)
    return sum(_part_bits(encoding, coding, len(matrix) / len(rows), matrix.shape[1] / sample.shape[1]))


def _part_bits(encoding: Encoding, coding: Coding | None, rows: float, columns: float) -> Iterator[float]:
    """Bits of each part of a whole that has so many times more rows and columns than its sample.

    Symbols grow with rows and columns, side information with rows; of two low-rank factors the left one (the last but
    one part) has the matrix's rows, the right one its columns.
    """
    for index, part in enumerate(encoding.parts, start=1 if encoding.form == "factored" else 0):
        tables = [array for key, array in part.grid.arrays.items() if key != "table"]
        symbols, side = symbol_bits(part, coding), 8.0 * sum(array.nbytes for array in tables)
        if index == 0:
            yield symbols * rows * columns + side * rows
        elif index % 2:
            yield (symbols + side) * rows
        else:
            yield symbols * columns + side


def symbol_bits(part: QuantizedTensor, coding: Coding | None) -> float:
    """Estimated bits of the symbols: the coder's own cost where it has the last word, else order-0 entropy."""
    if coding is not None and all(isinstance(codec, BYTE_CODECS["shuffle"]) for codec in coding.byte_codecs):
        return float(coding.coder.ideal_bits([part.symbols])[0])
    return order0_bits(part)
