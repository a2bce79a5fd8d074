"""The Gaussian rate-distortion bound of a weight matrix under its own Hessian-weighted distortion.

    D = 1/2 sum_i f_i e_i H e_i^T       w_i ~ N(0, s_i^2 I), independent rows
    R(D) = sum_ik max(0, 1/2 log2(f_i s_i^2 l_k / t)),  1/2 sum_ik min(t, f_i s_i^2 l_k) = D,  l_k eigenvalues of H

Source: reverse water-filling, Cover and Thomas, Elements of Information Theory, 2nd ed., Theorem 10.3.3. It bounds
Gaussian rows of known variance from below; weights that are not Gaussian may go under it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


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
