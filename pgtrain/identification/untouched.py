"""A third witness beside loss and gradient: values that training never touched are those that the model never read.

    tables of gains, skips and lanes start as 0, 1 or 1.1 everywhere --training--> all that is read moves
    a guess --gradient--> what it reads; that is as it started, or what it does not read moved --> it is not the guess

One value is enough: a trained float32 number is where it started by chance only. Values of half precision are rounded
to where they started, and say nothing. Owns which values speak against a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

TABLES = (
    "skip_weights", "skip_gates", "parallel_post_lambdas", "parallel_resid_lambdas", "virtual_attn_scales",
    "virtual_mlp_scales", "virtual_resid_mix_delta", "virtual_q_gain_mult",
)  # fmt: skip
STARTS = (0.0, 1.0, 1.1, 1.1**0.5)  # of tables, in public scripts
NEAR = 1e-5  # an average of weights is off by rounding
Values = Mapping[str, NDArray[np.float32]]
Read = Mapping[str, NDArray[np.bool_]]


def against(values: Values, read: Read) -> int:
    """How many values speak against a guess: read and untouched, or unread and moved. `read`: which values of each
    table have a gradient under it; a table that it lacks is not read at all."""
    if not values or _is_half(np.concatenate([table.ravel() for table in values.values()])):
        return 0
    found = 0
    for name, table in values.items():
        own = read.get(name, np.zeros(table.shape, bool))
        found += int(_untouched(table[own]).sum()) + int(_moved(table[~own]).sum())
    return found


def _untouched(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    away: NDArray[np.float32] = np.abs(np.subtract.outer(values, np.array(STARTS, np.float32))).min(1)
    return away < NEAR


def _moved(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Those that are not as most are: decay alone takes all from one start to one value."""
    if not len(values):
        return np.zeros(0, bool)
    alike = np.abs(values - np.median(values)) < NEAR
    moved: NDArray[np.bool_] = ~(alike | _untouched(values))
    return moved


def _is_half(values: NDArray[Any]) -> bool:
    """Whether all are numbers of float16, or all of bfloat16."""
    whole = values.astype(np.float32)
    with np.errstate(over="ignore"):
        return bool((whole.astype(np.float16) == whole).all() or not (whole.view(np.uint32) & 0xFFFF).any())
