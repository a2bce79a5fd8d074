"""Where the bytes above the Gaussian rate-distortion bound are, tensor by tensor.

    measured bits - R(D) = side information + coder above its tables' entropy + the trellis's own loss and the rest

The bound is Gaussian, at the distortion that the decoded tensor has under the same joined Hessian and Fisher weights
that the quantizer worked with. Weights that are not Gaussian, and rows whose variance the bound is told for nothing,
make the rest smaller or even negative.

    D = 1/2 sum_i f_i e_i H e_i^T       w_i ~ N(0, s_i^2 I), independent rows
    R(D) = sum_ik max(0, 1/2 log2(f_i s_i^2 l_k / t)),  1/2 sum_ik min(t, f_i s_i^2 l_k) = D,  l_k eigenvalues of H

Source: reverse water-filling, Cover and Thomas, Elements of Information Theory, 2nd ed., Theorem 10.3.3. It bounds
Gaussian rows of known variance from below; weights that are not Gaussian may go under it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.rans.scaled import RansScaled
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.tcq import Tcq, sensitivity
from pgpack.recipe.recipe import parse_recipe

from .curves import ENGINES, Variant, text_of
from .laboratory import Laboratory

DAMP = Tcq(1.0).damp
Float64 = NDArray[np.float64]


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
        n = weight.size
        yield Gap(name, n, 8 * artifact.report.tensors[name] / n, bits / n, bound / n)


def total_gap(laboratory: Laboratory, step: float, variant: Variant) -> Gap:
    """All matrices as one."""
    found = list(gaps(laboratory, step, variant))
    n = sum(gap.n for gap in found)
    measured, entropy, bound = (
        sum(getattr(gap, key) * gap.n for gap in found) / n for key in ("measured", "entropy", "bound")
    )
    return Gap(f"{variant.name}, step {step:g}", n, measured, entropy, bound)


def weighted_distortion(error: Float64, hessian: Float64, fisher: Float64) -> float:
    """D of an error matrix. *Shape* error (rows, cols), hessian (cols, cols), fisher (rows,). Units: nats a token."""
    return 0.5 * float(np.einsum("ij,ij,i->", error @ hessian, error, fisher))


def rate_bound(weight: Float64, hessian: Float64, fisher: Float64, distortion: float) -> float:
    """R(D) in bits for the whole matrix; 0 where D is above what zeros would cost.

    The level t is found by bisection in its logarithm over all rows x eigenvalues.
    """
    variances = np.mean(weight * weight, axis=1) * fisher
    eigenvalues = np.maximum(np.linalg.eigvalsh(hessian), 0)
    powers = np.outer(variances, eigenvalues).reshape(-1)
    powers = powers[powers > 0]
    if not powers.size or 0.5 * powers.sum() <= distortion:
        return 0.0
    low, high = np.log(powers.min()) - 60, np.log(powers.max())
    for _ in range(100):
        middle = (low + high) / 2
        if 0.5 * np.minimum(np.exp(middle), powers).sum() > distortion:
            high = middle
        else:
            low = middle
    active = powers[powers > np.exp(low)]
    return 0.5 * float(np.sum(np.log2(active) - low / np.log(2)))
