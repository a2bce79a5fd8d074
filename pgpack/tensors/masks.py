"""Which values are a mask: -inf, added to scores, where attention may not look."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 16  # distinct values; a mask has two


def few_values(values: NDArray[Any]) -> bool:
    """Whether `values` hold few distinct ones, as masks and untrained buffers do; of two values that is no sign."""
    first = values.reshape(-1)[:4096]
    return np.unique(first).size <= FEW and np.unique(values).size <= min(FEW, values.size // 2)


def is_mask(values: NDArray[Any]) -> bool:
    """Whether `values` hold -inf as a mask does: neither NaN nor +inf, and few distinct values, or -inf exactly where
    attention would look ahead or a vocabulary is filled up; or +inf alone, as a least value before any was seen. A
    model that diverged is another thing."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return False
    if np.isposinf(values).all():
        return True
    if np.isnan(values).any() or np.isposinf(values).any():
        return False
    return np.unique(values).size <= FEW or _is_causal(values) or _is_filled_up(values)


def _is_causal(values: NDArray[Any]) -> bool:
    """Whether -inf is at every later place than a row's own, and nowhere else: biases of distance with a mask."""
    if values.ndim < 2:
        return False
    rows, columns = values.shape[-2:]
    return bool((np.isneginf(values) == np.triu(np.ones((rows, columns), np.bool_), 1 + columns - rows)).all())


def _is_filled_up(values: NDArray[Any]) -> bool:
    """Whether -inf is at the end of a vector, more than once, and nowhere else: the bias of tokens that are none."""
    hidden = np.isneginf(values)
    count = int(np.count_nonzero(hidden))
    return values.ndim == 1 and count > 1 and bool(hidden[len(values) - count :].all())
