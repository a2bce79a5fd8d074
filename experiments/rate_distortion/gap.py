"""Where the bytes above the Gaussian rate-distortion bound are, tensor by tensor.

    measured bits - R(D) = side information + coder above its tables' entropy + the trellis's own loss and the rest

The bound is that of `gaussian`, at the distortion that the decoded tensor has under the same joined Hessian and
Fisher weights that the quantizer worked with. Weights that are not Gaussian, and rows whose variance the bound is
told for nothing, make the rest smaller or even negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pgpack.codecs.rans.scaled import RansScaled
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.tcq import Tcq, sensitivity
from pgpack.recipe.recipe import parse_recipe

from .curves import ENGINES, Variant, text_of
from .gaussian import rate_bound, weighted_distortion
from .laboratory import Laboratory

DAMP = Tcq(1.0).damp


@dataclass(frozen=True)
class Gap:
    """One matrix. Units: bits per weight, but `n`; `entropy`: the symbols under the coder's shared tables."""

    name: str
    n: int
    measured: float
    entropy: float
    bound: float


def gaps(laboratory: Laboratory, step: float, variant: Variant = ENGINES[1]) -> Iterator[Gap]:
    """One Gap per matrix that the engine codes."""
    recipe = parse_recipe(text_of(variant, step)).without_idle_rules(laboratory.shapes)
    artifact = laboratory.pack(recipe)
    tensors = artifact.decoded.tensors()
    calibration = laboratory.calibration("observed", recipe)
    coded = [record for record in artifact.records if record.name in laboratory.matrices]
    states = int(coded[0].parts[0].grid.params["states"])
    ideal = RansScaled(states).ideal_bits([record.parts[0].symbols for record in coded])
    for record, bits in zip(coded, ideal, strict=True):
        name = record.name
        weight = laboratory.tensors[name]
        known = (calibration.hessian(name), calibration.fisher(name), None, *calibration.lookup(name))
        source, fisher = sensitivity(QuantizerInput(name, weight, *known))
        assert source.hessian is not None
        hessian = source.hessian.astype(np.float64)
        hessian[np.diag_indices_from(hessian)] += DAMP * np.mean(np.diag(hessian))
        error = (tensors[name] - weight).astype(np.float64)
        bound = rate_bound(weight.astype(np.float64), hessian, fisher, weighted_distortion(error, hessian, fisher))
        yield Gap(
            name,
            weight.size,
            8 * artifact.report.tensors[name] / weight.size,
            bits / weight.size,
            bound / weight.size,
        )


def total_gap(laboratory: Laboratory, step: float, variant: Variant) -> Gap:
    """All matrices as one."""
    found = list(gaps(laboratory, step, variant))
    n = sum(gap.n for gap in found)
    measured, entropy, bound = (
        sum(getattr(gap, key) * gap.n for gap in found) / n for key in ("measured", "entropy", "bound")
    )
    return Gap(f"{variant.name}, step {step:g}", n, measured, entropy, bound)
