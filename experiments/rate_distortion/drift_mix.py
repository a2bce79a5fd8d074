"""How far targets and Hessians follow the drift, searched stage by stage.

    half of the windows --each mix--> the stage quantized      the other half: its error by Fisher weights
    best mix, all windows --> the stage quantized

A mix is (share of the step towards what makes up for the drift, share of the fp32 model's Hessian in the quantized
model's). `@drift` has (1, 0) everywhere. *Source* a mix per layer: WaterSIC (arXiv:2603.04956), which searches it by
the loss of the layer; here it is the error on windows that the stage was not fitted to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pgpack.bench.training import Training
from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.pack import Quantized
from pgpack.recipe.applied import Applied, apply
from pgpack.recipe.directives import Drift
from pgpack.recipe.recipe import Recipe
from pgpack.refine.drift import Array, Drifting, Moments, Pairs, quantize_towards
from pgpack.tensors.record import Record

MIXES = tuple((share, clean) for share in (1.0, 0.5, 0.0) for clean in (0.0, 0.5))


class Mixing(Training):
    """A trainer whose drift is followed by the mix that is best for each stage."""

    def follow_drift(self, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration) -> Quantized:
        started, text = time.perf_counter(), self.bench.text
        tokens = self.bench.calib_tokens("drift", recipe.calib.count)
        drifting = Searching.over(tokens, text.seq_len, text.build, text.device)
        applied, names = apply(recipe, checkpoint.stored_shapes), list(checkpoint.stored_shapes)
        records = drifting.quantize(checkpoint, applied, calibration, names)
        return Quantized(tuple(records[n] for n in names), checkpoint.aliases, time.perf_counter() - started)


@dataclass(frozen=True, eq=False)
class Searching(Drifting):
    """Each stage by its best mix."""

    def quantize_stage(
        self, checkpoint: Checkpoint, applied: Applied, calibration: Calibration, names: Sequence[str], pairs: Pairs
    ) -> dict[str, Record]:
        batches, plan = list(pairs), applied.recipe.drift
        whole, fitted, kept = (
            Moments.of(batches[part]) for part in (slice(None), slice(0, None, 2), slice(1, None, 2))
        )

        def made(moments: Moments, share: float, clean: float) -> dict[str, Record]:
            targets = {}
            for name in names:
                weight = checkpoint.tensor(name)
                targets[name] = weight + np.float32(share) * (moments.target_of(checkpoint, name, plan) - weight)
            fp32 = calibration.hessian(names[0])
            assert fp32 is not None  # what is quantized in stages has one
            hessian = np.asarray((1 - clean) * moments.h + clean * fp32, np.float32)
            return quantize_towards(targets, hessian, checkpoint, applied, calibration)

        def lost(records: Mapping[str, Record]) -> float:
            return sum(_error(kept, checkpoint.tensor(n), records[n], calibration.fisher(n), plan) for n in names)

        if len(batches) < 2:
            return super().quantize_stage(checkpoint, applied, calibration, names, batches)
        return made(whole, *min(MIXES, key=lambda mix: lost(made(fitted, *mix))))


def _error(moments: Moments, weight: Array, record: Record, fisher: Array | None, plan: Drift) -> float:
    """Mean squared error of what a matrix gives, weighed by row, less what no record changes."""
    wide = weight.reshape(-1, weight.shape[-1]).astype(np.float64)
    change = record.dequantize().reshape(wide.shape) - wide
    of_rows = ((change @ moments.h.astype(np.float64)) * change - 2 * change * moments.wanted(wide, plan)).sum(axis=1)
    return float(of_rows.sum() if fisher is None else of_rows @ fisher)
