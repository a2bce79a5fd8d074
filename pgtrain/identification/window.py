"""How long the windows were that a model was trained on: its loss falls with the context up to there, then rises.

The same tokens are read in windows of each length. Owns the comparison of lengths; refuses to call one the best that
is not clearly better than its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import DataError

from .contest import SIGMAS

LENGTHS = tuple(sorted([*(2**k for k in range(4, 13)), *(3 * 2**k for k in range(3, 11))]))  # 16 .. 4,096
FEWEST = 4  # windows of a length that are enough to judge it
BEYOND = 2  # lengths clearly behind the best, one after another, after which no longer one is tried
CORRELATED = 2.0  # by how much neighbouring tokens, which see the same context, widen the error of a mean


def window_of(read: Callable[[int], NDArray[np.float64]], n_tokens: int) -> int:
    """The length of window that `read` (length -> nats of the first tokens of a text) loses least with, clearly.

    Raises: DataError, naming --seq-len and the losses, where several do.
    """
    found: dict[int, NDArray[np.float64]] = {}
    lengths = [length for length in LENGTHS if FEWEST * length <= n_tokens]
    beyond = 0
    for length in lengths:
        found[length] = read(length)
        best = _best(found)
        beyond = beyond + 1 if length > best and _clear(found[length], found[best]) else 0
        if beyond == BEYOND:
            break
    if not found:
        raise DataError(
            f"nothing in the tensors says how long the model's windows were, and {n_tokens:,} tokens are too few to "
            "find out; give --seq-len N"
        )
    best = _best(found)
    others = [length for length in found if length != best and not _clear(found[length], found[best])]
    if others or best == lengths[-1]:
        near = sorted({best, *others})
        said = ", ".join(f"{length} {found[length].mean():.4f}" for length in near)
        more = "" if best != lengths[-1] or others else f", and {n_tokens:,} tokens are too few to try longer ones"
        raise DataError(
            f"nothing in the tensors says how long the model's windows were, and they lose alike (nats per token of "
            f"windows of {said}){more}; give --seq-len N"
        )
    return best


def _best(found: dict[int, NDArray[np.float64]]) -> int:
    common = min(len(losses) for losses in found.values())
    return min(found, key=lambda length: float(found[length][:common].mean()))


def _clear(losses: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    common = min(len(losses), len(best))
    differences = losses[:common] - best[:common]
    error = CORRELATED * float(differences.std()) / max(common - 1, 1) ** 0.5
    return bool(differences.mean() > SIGMAS * error)
