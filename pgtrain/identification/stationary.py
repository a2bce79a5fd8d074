"""A second witness beside the loss: under the arithmetic that a model was trained with, its gradient is smallest.

    loss       falls a little under some arithmetic that the model never had: a rotary base, a border, a cap
    gradient   was driven towards zero by training, under its own arithmetic only

Training drives the gradient towards zero on its own text and for as long as it runs: something, g, is left on any
other text. Arithmetic that the model never had adds D to it, |g + D|^2 = |g|^2 + 2 g.D + |D|^2. So from the truth to
another guess the squared gradient rises by about |D|^2, and from another guess to the truth it falls by as much;
where it does neither, what is left tells more than D does, and the witness is silent. Every value counts in units of
its own deviation between batches, which makes the witness blind to arithmetic that only scales gradients, such as a
cap of the logits, and products of different batches are free of the noise of either. Source: the score test, Rao
1948, with the diagonal of the information matrix. Owns the comparison of two guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Gradients = Sequence[NDArray[np.float32]]  # of each tensor, in each batch. Shape: (batches, values)
BATCHES, FEW = 16, 4  # of a gradient: all, and those that tell whether it is felt
FLOOR = 0.1  # of a tensor's mean variance: of values that hardly vary between batches little is known
RISE = (0.4, 1.6)  # parts of |D|^2 by which the squared gradient rises from the truth
FELT = 0.01  # parts of |g|^2 that |D|^2 must be
SIGMAS = 2.0  # standard errors (jackknife over batches) that a rise must reach


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
    def verdict(self) -> int:
        """1 where the first guess is the truth, -1 where the second is, 0 where the gradient says neither."""
        as_much = RISE[0] * self.distance < abs(self.whole) < RISE[1] * self.distance
        if not self.felt or not as_much or abs(self.whole) < SIGMAS * self.error:
            return 0
        return 1 if self.whole > 0 else -1


def rise(one: Gradients, other: Gradients) -> Rise:
    """How the squared gradient rises from one guess to another, over the batches that both were given."""
    count = min(len(one[0]), len(other[0]))
    products = np.zeros((2 * count, 2 * count))
    for first, second in zip(one, other, strict=True):
        rows = np.concatenate((_in_own_units(first[:count]), _in_own_units(second[:count])))
        products += rows @ rows.T
    first, second, cross = products[:count, :count], products[count:, count:], products[:count, count:]
    more = second - first
    parts = np.array([_between(np.delete(np.delete(more, i, 0), i, 1)) for i in range(count)])
    error = float(((count - 1) / count * ((parts - parts.mean()) ** 2).sum()) ** 0.5)
    distance = _between(first + second - cross - cross.T)
    return Rise(_between(more), error, distance, min(_between(first), _between(second)))


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
