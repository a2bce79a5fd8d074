"""Which values are a mask: -inf, added to scores, where attention may not look."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 16  # distinct values; a mask has two
BUFFER = re.compile(  # ends of names of what modules keep and nobody learns: statistics, masks, tables of positions
    r"(^|[._])(running_(mean|var)|moving_(mean|var|variance)|num_batches_tracked|masks?|masked_bias|min_vals?|max_vals?"
    r"|amax|amin|histogram|inv_freq|freqs_cis|cos|sin|(cos|sin)_cached|alibi(_slopes)?|cluster_size|counts?|queue"
    r"|stats|statistics|ema_w|embed_avg|buffer)$"
)


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


def may_be_endless(name: str, values: NDArray[Any]) -> bool:
    """Whether `values` may hold NaN or infinity: a mask, or what its name calls a buffer, such as a running mean."""
    return BUFFER.search(name) is not None or is_mask(values)


def is_kept(values: NDArray[Any]) -> bool:
    """Whether a tensor of a checkpoint is stored as it is, whatever its rule says: no floats, or not all finite."""
    return values.dtype.kind != "f" or not bool(np.isfinite(values).all())
