"""Products of activations with parameters, found while a model runs. Needs torch.

It intercepts the operations themselves (torch function mode), so tied embeddings used as output matrices, functional
calls and subclasses of Linear are all seen; no module needs to be of a known class.

    F.linear(x, W)    x @ W.T        rows of W are outputs
    x @ W             addmm          rows of W are inputs
    W @ x                            as F.linear, of the columns of x
    F.embedding(ids, W)   W[ids]     a look-up (`look_ups`), unless the rows are multiplied after all
    x + W[:n]             cat        rows that are taken as a view and added: a look-up of each, wherever it lands

W is a parameter, a cast, transpose or run of rows of one, or a matrix of a stack: `bank[i]`, `factors[use]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .look_ups import JOINS, SUMS, LookUp, arguments, is_table, look_up, numbers_of_rows

_CASTS = {
    Tensor.to, Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16, Tensor.type_as, Tensor.contiguous,
}  # fmt: skip
_PRODUCTS = {torch.matmul: 0, Tensor.matmul: 0, Tensor.__matmul__: 0, torch.mm: 0, Tensor.mm: 0, torch.addmm: 1}


class Place(NamedTuple):
    """Rows start..stop of a parameter seen as a matrix (all but its last dimension, its last dimension)."""

    name: str
    start: int
    stop: int
    flipped: bool = False  # the tensor is the transpose of these rows


def whole(name: str, parameter: Tensor) -> Place:
    """All rows of a parameter."""
    return Place(name, 0, int(np.prod(parameter.shape[:-1], dtype=np.int64)))


def _part(place: Place, base: Tensor, view: Tensor) -> Place | None:
    """Where `view` is when `base` is at `place`; None where it is not a run of whole rows or their transpose."""
    offset = view.storage_offset() - base.storage_offset()
    strides = base.stride()
    if view.shape == base.shape[::-1] and view.stride() == strides[::-1] != strides and view.ndim == 2 and not offset:
        return place._replace(flipped=not place.flipped)
    cols = base.shape[-1]
    if place.flipped or view.ndim != 2 or not base.is_contiguous() or not cols or offset % cols:
        return None
    start = place.start + offset // cols
    (n, m), (row, col) = view.shape, view.stride()
    if m == cols and (col == 1 or m == 1) and (row == cols or n == 1):
        return Place(place.name, start, start + n)
    if n == cols and (row == 1 or n == 1) and (col == cols or m == 1):
        return Place(place.name, start, start + m, True)
    return None


class Products(TorchFunctionMode):
    """Calls `product` and `looked_up` for what a model does with its parameters while active.

    Either may give another tensor to go on with in place of the result.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.parameters = {id(tensor): (tensor, whole(name, tensor)) for name, tensor in parameters.items()}
        self.tensors = parameters
        self.known = dict(self.parameters)  # id of a live tensor -> (tensor, its place)
        self.rows: dict[int, tuple[Tensor, str]] = {}  # id of live rows that were looked up -> (they, their table)

    def product(self, x: Tensor, y: Tensor, place: Place, rows_are_outputs: bool) -> None:
        """y = x W^T, or y = x W, for the rows of W at `place`."""

    def looked_up(self, ids: Tensor, rows: Tensor, table: Tensor, name: str) -> None:
        """`rows` of a table were looked up."""

    def multiplied(self, name: str) -> None:
        """Rows of a table that were looked up were the weights of a product."""

    def result(self, y: Tensor) -> Tensor:
        """What goes on in place of a result."""
        return y

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if args and (func in SUMS or func in JOINS):
            return self._added(func, args, given)
        result = func(*args, **given)
        if (asked := look_up(func, args, given)) and (place := self._place(asked.table)):
            return self._rows_of(asked, place, result)
        if func is F.linear:
            x, weight = arguments(args, given, "input", "weight")
            return self._multiplied(x, weight, result, True)
        if func in _PRODUCTS and len(args) > _PRODUCTS[func] + 1:
            x, weight = args[_PRODUCTS[func] :][:2]
            if func is not torch.addmm and not self._place(weight) and (place := self._place(x)) and weight.ndim > 1:
                columns = self.result(result.mT)
                self.product(weight.mT, columns, place, not place.flipped)
                return columns.mT
            return self._multiplied(x, weight, result, False)
        if func in _CASTS and args and isinstance(result, Tensor):
            if place := self._place(args[0]) or self._run(args[0]):
                self.known[id(result)] = (result, place)
            elif id(args[0]) in self.rows:
                self.rows[id(result)] = (result, self.rows[id(args[0])][1])
        return result

    def _multiplied(self, x: Tensor, weight: Tensor, y: Tensor, rows_are_outputs: bool) -> Tensor:
        """What goes on in place of y, a product of x with what may be a parameter's."""
        if place := self._place(weight):
            y = self.result(y)
            self.product(x, y, place, rows_are_outputs != place.flipped)
        elif id(weight) in self.rows:
            self.multiplied(self.rows[id(weight)][1])
        return y

    def _rows_of(self, asked: LookUp, place: Place, rows: Tensor) -> Tensor:
        """What goes on in place of rows that were looked up; of stacks and transposes nothing is known."""
        table = self.tensors[place.name]
        if is_table(table) and not place.flipped:
            rows = self.result(rows)
            if rows.ndim == 2:  # else no weights of a product
                self.rows[id(rows)] = (rows, place.name)
            self.looked_up(asked.ids + place.start, rows, table.flatten(0, -2), place.name)
        return rows

    def _added(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A sum or a join of activations, in which rows of tables that are parts are looked up.

        What has two dimensions is no activation: the sum of a weight and its change. One row alone, added everywhere,
        is a bias."""
        joins = func in JOINS
        parts = list(args[0] if joins else args)
        taken = []
        if any(isinstance(part, Tensor) and part.ndim > 2 for part in parts):
            for at, part in enumerate(parts):
                if (found := self._rows(part)) and (found[1] != found[1].flatten()[0]).any():
                    parts[at] = self.result(part.detach())
                    taken.append((*found, parts[at]))
        result = func(parts, *args[1:], **kwargs) if joins else func(*parts, **kwargs)
        for name, ids, rows in taken:
            lands = ids if joins else ids.expand(result.shape[:-1])
            self.looked_up(lands, rows, self.tensors[name].flatten(0, -2), name)
        return result

    def forget(self) -> None:
        """Drop tensors that belong to the finished batch (their ids may be reused)."""
        self.known, self.rows = dict(self.parameters), {}

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Casts of weights that are made in this block are let go at its end."""
        known, rows = self.known, self.rows
        self.known, self.rows = dict(known), dict(rows)
        try:
            yield
        finally:
            self.known, self.rows = known, rows

    def _rows(self, tensor: Any) -> tuple[str, Tensor] | None:
        """(the table, the numbers of its rows) of what is nothing but whole rows of one. Shape: of the tensor without
        its last dimension."""
        base = tensor if id(tensor) in self.known else getattr(tensor, "_base", None)
        if base is None or id(base) not in self.known or not is_table(self.tensors[self.known[id(base)][1].name]):
            return None
        place = self.known[id(base)][1]
        numbers = None if place.flipped else numbers_of_rows(tensor, base)
        return None if numbers is None else (place.name, numbers + place.start)

    def _run(self, tensor: Any) -> Place | None:
        """Where a run of rows is that is no matrix: `W[None, :n]`."""
        if (found := self._rows(tensor)) is None or not tensor.is_contiguous():
            return None
        first, n_rows = int(found[1].flatten()[0]), found[1].numel()
        return Place(found[0], first, first + n_rows) if int(found[1].flatten()[-1]) == first + n_rows - 1 else None

    def _place(self, tensor: Any) -> Place | None:
        """Where in a parameter a tensor is: known itself, or a view of a tensor that is."""
        if id(tensor) in self.known:
            return self.known[id(tensor)][1]
        base = tensor._base if isinstance(tensor, Tensor) else None
        if base is None or id(base) not in self.known:
            return None
        return _part(self.known[id(base)][1], base, tensor)
