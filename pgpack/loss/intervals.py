"""How sure a measured loss is: standard errors of ratios over the blocks of one text, paired between models.

    nats of model A by block  -.
    nats of model B by block  -+-> difference by block d_i --> sum d / (ln 2 sum b) +- standard error
    bytes of text by block  b_i-'

Two models scored on the same text share its hard and easy passages: block by block these cancel, so a difference is
known far better than either loss. A block is a run of whole windows, longer than what one token's surprise reaches,
so that blocks are nearly independent. Pure functions of plain numbers.
Source: the variance of a ratio of means, Cochran, Sampling Techniques (1977), eq. 6.13, without the finite population
factor: the text stands for the text that it was drawn from.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pgpack.errors import StudyError

MAX_BLOCKS = 64  # 256 bytes a trial; Student's quantile is within 2 % of the normal one
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and how sure it is. Units: those of `value`; `standard_error` None where one block says nothing."""

    value: float
    standard_error: float | None
    n_blocks: int

    def half_width(self, level: float = LEVEL) -> float | None:
        """The interval of `level` confidence is value +- this; None where unknown."""
        if self.standard_error is None:
            return None
        return student_quantile(level, self.n_blocks - 1) * self.standard_error


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> Estimate:
    """sum(numerators) / sum(denominators) with its standard error over the blocks.

    Shape: (n_blocks,) each. Raises: StudyError when the lengths differ or the denominators do not sum to more than 0.
    """
    a, b = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not b.sum() > 0:
        raise StudyError(f"blocks of shapes {a.shape} and {b.shape} are no losses of one text")
    n, value = len(a), float(a.sum() / b.sum())
    if n < 2:
        return Estimate(value, None, n)
    residuals = a - value * b
    error = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / float(b.sum())
    return Estimate(value, error, n)


def bpb_difference(nats: ArrayLike, other: ArrayLike, n_bytes: ArrayLike) -> Estimate:
    """Bits per byte of one model above another's on the same blocks of text. Shape: (n_blocks,) each."""
    excess = np.asarray(nats, np.float64) - np.asarray(other, np.float64)
    return ratio(excess / math.log(2), n_bytes)


def student_quantile(level: float, freedom: int) -> float:
    """|t| that Student's distribution stays below with probability `level`."""
    from scipy.special import stdtrit  # 0.1 s to import, and only intervals need it

    return float(stdtrit(freedom, 0.5 + level / 2))


def block_starts(n_windows: int, most: int = MAX_BLOCKS) -> list[int]:
    """The first window of each block: at most `most` blocks of whole windows, as equal as they can be."""
    n = min(n_windows, most)
    return [i * n_windows // n for i in range(n)]


def pack_floats(values: Sequence[float]) -> str | None:
    """Values as text for a journal row: base64 of little-endian float32; None for none. `unpack_floats` reads it."""
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode("ascii") if len(values) else None


def unpack_floats(text: str) -> tuple[float, ...]:
    """The float32 values of `pack_floats`. Raises: StudyError on other text."""
    try:
        return tuple(np.frombuffer(base64.b64decode(text, validate=True), "<f4").tolist())
    except ValueError as error:
        raise StudyError(f"losses by block are not base64 of float32 values ({error})") from None
