"""A second witness beside the loss: under the arithmetic that a model was trained with, its gradient is smallest.

    loss       falls a little under some arithmetic that the model never had: a rotary base, a border, a cap
    gradient   was driven towards zero by training, under its own arithmetic only

The squared gradient of the mean loss, each tensor in units of its own variance between batches, is estimated without
bias from products of different batches. Source: the score test, Rao 1948; here with variances per tensor in place of
the information matrix. Owns the comparison of two guesses.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Grams = Mapping[
    str, NDArray[np.float64]
]  # tensor -> products of its gradients in each two batches, (batches, batches)
SIGMAS = 3.0  # standard errors (jackknife over batches) that a difference must reach


def steeper(one: Grams, other: Grams) -> int:
    """Which of two guesses has the larger gradient: 1 the first, -1 the second, 0 neither clearly."""
    weights = {name: 1.0 / scale for name in one if name in other and (scale := _scale(one[name], other[name])) > 0}
    if not weights:
        return 0
    products = [sum(weights[name] * grams[name] for name in weights) for grams in (one, other)]
    difference = np.asarray(products[0] - products[1])
    count = len(difference)
    whole = _between(difference)
    left = np.array([_between(np.delete(np.delete(difference, i, 0), i, 1)) for i in range(count)])
    error = float(((count - 1) / count * ((left - left.mean()) ** 2).sum()) ** 0.5)
    return 0 if abs(whole) <= SIGMAS * error else 1 if whole > 0 else -1


def _between(products: NDArray[np.float64]) -> float:
    """The mean of products of two different batches: the squared mean gradient, without the noise of either."""
    count = len(products)
    return float((products.sum() - np.trace(products)) / (count * (count - 1)))


def _scale(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Variance of a tensor's gradient between batches, summed over its values, the mean of both guesses."""
    return sum(float(np.trace(each) / len(each) - _between(each)) for each in (one, other)) / 2
