"""What two guesses lose, as odds: how much likelier that is where the first is the truth than where the second is.

    losses of both, token by token --> mean difference m, variance v --> ln P(m | the first) - ln P(m | the second)

Under its own arithmetic a model loses v / 2 less than under another, where v is the variance of the differences, if
it knows its text: the spread of the differences says what their mean must be. What is measured is off by the noise of
so many tokens, by a lean (training never moved what leaves no trace, so the loss may fall a little towards arithmetic
that the model never had), and by the roughness of all this. A difference that neither guess explains says nothing.
Owns the odds. Source: Cox 1961, "Tests of separate families of hypotheses".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]
ROUGH = 0.3  # parts of what is expected by which it is off
MOST = 6.5  # of one witness: alone, none makes a usual value give way to an unusual one (see `search`)
LEAST = 1e-12  # squared nats: a variance that is none


def of_losses(one: Losses, other: Losses, lean: float) -> float:
    """The log of how much likelier the first guess is than the second, by the losses of the same tokens.

    `lean`: the deviation of a difference that arithmetic alone makes, in parts of the root of what is expected."""
    differences = other - one
    expected = max(float(differences.var()), LEAST) / 2
    return log_ratio(float(differences.mean()), expected, expected * (2 / len(differences) + lean**2))


def log_ratio(seen: float, expected: float, variance: float) -> float:
    """The log of how much likelier it is to see this where `expected` is the mean than where -`expected` is."""
    return float(np.clip(2 * seen * expected / (variance + (ROUGH * expected) ** 2), -MOST, MOST))
