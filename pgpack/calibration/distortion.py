"""How far decoded weights are from the checkpoint, without running the model.

    with calibration     expected loss = 1/2 sum over tensors and rows o of f_o * e_o H e_o^T    nats per token
    without              relative squared error of each tensor, averaged over all weights

H and f as in `pgpack.calibration.calibration`; a tensor without Hessian (or Fisher weights) counts nothing (or
with f = 1). The estimate ranks recipes of one checkpoint; it is not a measurement of loss.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.recipe.recipe import Recipe
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.masks import is_kept
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record

from .calibration import Calibration
from .inputs import in_order


@dataclass(frozen=True)
class WeightError:
    """Measures decoded weights against `checkpoint`, where no text is known; with a calibration also what their error
    is expected to cost."""

    checkpoint: Checkpoint
    calibration: Calibration | None = None

    @property
    def digest(self) -> str:
        """sha256 hex of the way of measuring; as an evaluator's it tells studies apart."""
        parts = ["pgpack-weight-error", self.calibration.digest if self.calibration else None]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def of(self, records: Sequence[Record]) -> dict[str, float | None]:
        """The fields of a trial: `relative_error`, and `expected_loss`, None without a calibration."""
        cost = expected_loss(self.checkpoint, records, self.calibration) if self.calibration else None
        return {"relative_error": relative_error(self.checkpoint, records), "expected_loss": cost}


def expected_loss(checkpoint: Checkpoint, records: Sequence[Record], calibration: Calibration) -> float:
    """Second-order estimate of the loss that quantization adds. Units: nats per token (with Fisher weights)."""
    return sum(expected_losses(checkpoint, records, calibration).values())


def expected_losses(checkpoint: Checkpoint, records: Sequence[Record], calibration: Calibration) -> dict[str, float]:
    """`expected_loss` of each tensor that has a Hessian. Units: nats per token (with Fisher weights)."""
    losses: dict[str, float] = {}
    for record in records:
        own = calibration.hessian(record.name), calibration.fisher(record.name)
        for hessian, fisher in (own, calibration.lookup(record.name)):
            if hessian is None:
                continue
            weight = checkpoint.tensor(record.name)
            error = (weight - record.dequantize()).reshape(-1, len(hessian))
            per_row = np.einsum("oi,oi->o", error @ hessian, error, dtype=np.float64)
            loss = 0.5 * float(per_row @ fisher if fisher is not None else per_row.sum())
            losses[record.name] = losses.get(record.name, 0.0) + loss
    return losses


def relative_error(checkpoint: Checkpoint, records: Sequence[Record]) -> float:
    """Mean over all weights of their tensor's squared error relative to its squared norm."""
    errors = relative_errors(checkpoint, records)
    total = sum(checkpoint.tensor(name).size * error for name, error in errors.items())
    return total / max(1, checkpoint.n_params)


def relative_errors(checkpoint: Checkpoint, records: Sequence[Record]) -> dict[str, float]:
    """Squared error of each tensor relative to its squared norm; 0 for a tensor of zeros. What is stored as it is
    (integers, complex values, masks) is left out."""
    errors: dict[str, float] = {}
    for record in records:
        weight = checkpoint.tensor(record.name)
        if weight.size and not is_kept(weight):
            error = float(np.square(weight - record.dequantize(), dtype=np.float64).sum())
            power = float(np.square(weight, dtype=np.float64).sum())
            errors[record.name] = error / power if power else 0.0
    return errors


def vanished(checkpoint: Checkpoint, records: Sequence[Record]) -> list[str]:
    """Tensors that decode to nothing but zeros and were more than that: their step is too small for 16 bits, or their
    weights are too small for their step."""
    coded = [record for record in records if all(map(_may_be_nothing, record.parts))]
    return [r.name for r in coded if not r.dequantize().any() and checkpoint.tensor(r.name).any()]


def _may_be_nothing(part: QuantizedTensor) -> bool:
    """Whether a part may decode to zeros alone, told without decoding it: of raw floats the sign says nothing, and
    beside a table or scales of zeros no symbol does."""
    if isinstance(part.grid, RawValues) and part.grid.values_dtype.startswith("float"):
        sign = 1 << (8 * part.symbols.itemsize - 1)
        return bool(((part.symbols == 0) | (part.symbols == sign)).all())
    return not part.symbols.any() or any(array.size and not array.any() for array in part.grid.arrays.values())


def added_losses(
    checkpoint: Checkpoint, records: Sequence[Record], recipe: Recipe, calibration: Calibration | None
) -> tuple[dict[str, float], str]:
    """(loss that quantizing each tensor adds, its unit): expected nats per token where the calibration has Hessians
    and Fisher weights; else the squared error relative to the tensor's squared norm."""
    checkpoint, calibration = in_order(checkpoint, calibration, recipe.order.by)
    if calibration is None or not any(key.endswith(".fisher") for key in calibration.shapes):
        return relative_errors(checkpoint, records), "relative squared error"
    return expected_losses(checkpoint, records, calibration), "nats per token"
