"""A second witness beside the loss: under the arithmetic that a model was trained with, its gradient is smallest.

    loss       falls a little under some arithmetic that the model never had: a rotary base, a border, a cap
    gradient   was driven towards zero by training, under its own arithmetic only

Training drives the gradient towards zero on its own text and for as long as it runs: something, g, is left on any
other text. Arithmetic that the model never had adds D to it, |g + D|^2 = |g|^2 + 2 g.D + |D|^2. So from the truth to
another guess the squared gradient rises by about |D|^2, and from another guess to the truth it falls by as much, give
or take 2 g.D: the less D is beside g, the less the witness says. Every value counts in units of its own deviation
between batches, which makes the witness blind to arithmetic that only scales gradients, such as a cap of the logits,
and products of different batches are free of the noise of either. Source: the score test, Rao
1948, with the diagonal of the information matrix. Owns the comparison of two guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .evidence import log_ratio

Gradients = Mapping[str, NDArray[np.float32]]  # of each tensor, in each batch. Shape: (batches, values)
BATCHES, FEW = 16, 4  # of a gradient: all, and those that tell whether it is felt
FLOOR = 0.1  # of a tensor's mean variance: of values that hardly vary between batches little is known
FELT = 0.01  # parts of |g|^2 that |D|^2 must be for a gradient to say anything
ASKEW = 0.05  # of 4 |g|^2 |D|^2, the part that (2 g.D)^2 is: measured on the models of `make bench-identify`


@dataclass(frozen=True)
class Rise:
    """From one guess to another: the squared gradient rises by `whole` with a standard error of `error`; |D|^2 is
    `distance`, and the smaller |g|^2 of the two `left`."""

    whole: float
    error: float
    distance: float
    left: float

    @property
    def felt(self) -> bool:
        """Whether the guesses differ by enough for what is left to be told from it."""
        return self.distance > FELT * self.left

    @property
    def evidence(self) -> float:
        """The log of how much likelier the first guess is than the second."""
        askew = ASKEW * max(self.left, 0.0) * self.distance
        return log_ratio(self.whole, self.distance, self.error**2 + askew) if self.distance > 0 else 0.0


def rise(one: Gradients, other: Gradients) -> Rise:
    """How the squared gradient rises from one guess to another, over the batches that both were given and the tensors
    that both read."""
    count = min(map(n_batches, (one, other)))
    products = np.zeros((2 * count, 2 * count))
    for name in one.keys() & other.keys():
        rows = np.concatenate([_in_own_units(guess[name][:count]) for guess in (one, other)])
        products += rows @ rows.T
    first, second, cross = products[:count, :count], products[count:, count:], products[:count, count:]
    more = second - first
    parts = np.array([_between(np.delete(np.delete(more, i, 0), i, 1)) for i in range(count)])
    error = float(((count - 1) / count * ((parts - parts.mean()) ** 2).sum()) ** 0.5)
    distance = _between(first + second - cross - cross.T)
    return Rise(_between(more), error, distance, min(_between(first), _between(second)))


def n_batches(gradients: Gradients) -> int:
    return len(next(iter(gradients.values())))


def _in_own_units(gradients: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every value by its deviation between batches."""
    variance = gradients.var(0, ddof=1)
    deviation = np.sqrt(variance + FLOOR * variance.mean()) + np.finfo(np.float32).tiny
    found: NDArray[np.float32] = gradients / deviation
    return found


def _between(products: NDArray[np.float64]) -> float:
    """The mean of products of two different batches: a squared mean, without the noise of either."""
    count = len(products)
    return float((products.sum() - np.trace(products)) / (count * (count - 1)))
