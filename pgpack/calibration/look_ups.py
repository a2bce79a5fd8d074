"""Which calls take rows of a table by number, or as a view. Needs torch.

    F.embedding(ids, W)    torch.embedding(W, ids)    W[ids]    W[ids, :]    torch.index_select(W, 0, ids)
    x + W[:n]    x + W.narrow(0, 0, n)[None]    torch.cat([W[:n].expand(b, -1, -1), x], 1)

A table is a matrix, or one under dimensions of 1: positions of shape (1, n, d). Owns the ways of asking. What only
narrows (`W[:n]`) is a view, and a look-up where it is added: it may be the weights of a product as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_SELECTED = {torch.index_select, Tensor.index_select}
SUMS = {
    torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__,
    torch.sub, Tensor.sub, Tensor.sub_, Tensor.__sub__, Tensor.__rsub__, Tensor.__isub__,
}  # fmt: skip
JOINS = {torch.cat, torch.concat, torch.concatenate, torch.stack}


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
        if not isinstance(table, Tensor) or dim not in (table.ndim - 2, -2):
            return None
    elif func is Tensor.__getitem__:
        table, ids = args[0], _of_rows(args[1], getattr(args[0], "ndim", 2))
    else:
        return None
    if not isinstance(table, Tensor) or not is_table(table) or not isinstance(ids, Tensor):
        return None
    return LookUp(table, ids.long() % table.shape[-2])


def is_table(tensor: Tensor) -> bool:
    """Whether a tensor is one matrix of rows, whatever dimensions of 1 it is under."""
    return tensor.ndim > 1 and tensor.shape[:-2].numel() == 1


def numbers_of_rows(view: Tensor, base: Tensor) -> Tensor | None:
    """Which rows of `base` a view of it holds; None where it holds anything else than whole ones. Shape: of the view
    without its last dimension."""
    cols = base.shape[-1]
    if not base.is_contiguous() or not cols or view.ndim < 2 or view.shape[-1] != cols or not view.numel():
        return None
    offset = view.storage_offset() - base.storage_offset()
    if (cols > 1 and view.stride(-1) != 1) or any(each % cols for each in (offset, *view.stride()[:-1])):
        return None
    numbers = torch.tensor(offset // cols)
    for size, stride in zip(view.shape[:-1], view.stride()[:-1], strict=True):
        numbers = numbers[..., None] + torch.arange(size) * (stride // cols)
    return numbers


def arguments(args: Sequence[Any], kwargs: Mapping[str, Any], *names: str) -> list[Any]:
    """The arguments of these names, which are the first."""
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]


def _of_rows(index: Any, ndim: int) -> Tensor | None:
    """The row numbers of an index, where it is nothing but those; a mask is the numbers of its rows.

    `ndim`: of the table; one under dimensions of 1 is indexed behind them."""
    if ndim > 2:
        parts = index if isinstance(index, tuple) else ()
        if any(isinstance(each, Tensor) or each not in (slice(None), 0) for each in parts[: ndim - 2]):
            return None
        index = parts[ndim - 2 :]
    if isinstance(index, tuple) and index and all(each is Ellipsis or each == slice(None) for each in index[1:]):
        index = index[0]
    if isinstance(index, (list, np.ndarray)):
        index = torch.as_tensor(index)
    if not isinstance(index, Tensor) or index.ndim == 0 or index.is_floating_point():
        return None
    return index.nonzero().squeeze(-1) if index.dtype is torch.bool and index.ndim == 1 else index
