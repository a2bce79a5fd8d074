"""Which calls take rows of a matrix by number. Needs torch.

    F.embedding(ids, W)    torch.embedding(W, ids)    W[ids]    W[ids, :]    torch.index_select(W, 0, ids)

Owns the ways of asking. What only narrows (`W[:n]`, `W[3]`) is a view and no look-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_SELECTED = {torch.index_select, Tensor.index_select}


class LookUp(NamedTuple):
    """Rows `ids` of `table`."""

    table: Tensor
    ids: Tensor


def look_up(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> LookUp | None:
    """What a call looks up; None for every other call."""
    if func is F.embedding:
        ids, table = arguments(args, kwargs, "input", "weight")
    elif func is torch.embedding:
        table, ids = arguments(args, kwargs, "weight", "indices")
    elif func in _SELECTED:
        table, dim, ids = arguments(args, kwargs, "input", "dim", "index")
        if dim not in (0, -2):
            return None
    elif func is Tensor.__getitem__:
        table, ids = args[0], _of_rows(args[1])
    else:
        return None
    if not isinstance(table, Tensor) or table.ndim != 2 or not isinstance(ids, Tensor):
        return None
    return LookUp(table, ids.long() % len(table))


def arguments(args: Sequence[Any], kwargs: Mapping[str, Any], *names: str) -> list[Any]:
    """The arguments of these names, which are the first."""
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]


def _of_rows(index: Any) -> Tensor | None:
    """The row numbers of an index, where it is nothing but those; a mask is the numbers of its rows."""
    if isinstance(index, tuple) and index and all(each is Ellipsis or each == slice(None) for each in index[1:]):
        index = index[0]
    if isinstance(index, (list, np.ndarray)):
        index = torch.as_tensor(index)
    if not isinstance(index, Tensor) or index.ndim == 0 or index.is_floating_point():
        return None
    return index.nonzero().squeeze(-1) if index.dtype is torch.bool and index.ndim == 1 else index
