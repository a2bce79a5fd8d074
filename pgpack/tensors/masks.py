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
    """Whether `values` hold -inf as a mask does: neither NaN nor +inf, and few distinct values; a model that
    diverged is another thing."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return False
    return not (np.isnan(values).any() or np.isposinf(values).any()) and np.unique(values).size <= FEW
