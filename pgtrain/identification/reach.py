"""Whether a model knows what to make of more context: the same tokens read with some, and with twice as much.

    context M .. 2M - 1 against M / 2 .. M - 1 --> gain m, variance v of the differences --> r = m / (v / 2)

What the model knows of more context is all gain, r = 1; what it never learned of longer distances is noise, and noise
of variance v loses v / 2, r = -1: the context was longer than its windows. Of small models trained briefly, text that
they never saw shows noise within their windows as well, and less. Owns the odds of the two.
Source of v / 2: see `evidence`.
"""

from __future__ import annotations

import math

import numpy as np

from .evidence import LEAST, MOST, Losses

WITHIN, ALSO = -0.45, 0.35  # r where twice the context is within the windows, and its deviation between models
BEYOND, EVENLY = -1.03, 0.2  # where it is not; both measured on models of `make bench-identify`


def knows(more: Losses, less: Losses) -> float:
    """The log of how much likelier it is that the model was trained on windows that hold the longer context.

    Losses of the same tokens with more context and with less, in nats."""
    gains = less - more
    expected = max(float(gains.var()), LEAST) / 2
    error = float(gains.std()) / max(len(gains) - 1, 1) ** 0.5 / expected
    r = max(float(gains.mean()) / expected, BEYOND)
    within, beyond = (_log_normal(r, mean, np.hypot(sd, error)) for mean, sd in ((WITHIN, ALSO), (BEYOND, EVENLY)))
    return float(np.clip(MOST if r > WITHIN else within - beyond, -MOST, MOST))


def change(more: Losses, less: Losses) -> float:
    """What context that is more changes of a token's loss: the log of the variance of its gain."""
    return math.log(max(float((less - more).var()), LEAST))


def _log_normal(x: float, mean: float, deviation: float) -> float:
    return float(-(((x - mean) / deviation) ** 2) / 2 - np.log(deviation))
