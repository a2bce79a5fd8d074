"""Watches every product of activations with a parameter and keeps what calibration needs of it. Needs torch.

It intercepts the operations themselves (torch function mode), so tied embeddings used as output matrices, functional
calls and subclasses of Linear are all seen; no module needs to be of a known class.

    F.linear(x, W)    x @ W.T        rows of W are outputs: second moments of x, squares of the loss gradient at y
    x @ W             addmm          rows of W are inputs: second moments of the gradient at y, squares of x
    W @ x                            as F.linear, of the columns of x
    F.embedding(ids, W)              a look-up: counts, second moments of the gradient at the rows looked up

W is a parameter, a cast, transpose or run of rows of one, or a matrix of a stack: `bank[i]`, `factors[use]`.

Owns the sums. Weights need no gradient: a product or look-up whose input needs none is made to need one itself, so
that gradients of activations are all that is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CASTS = {Tensor.to, Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.type_as, Tensor.contiguous}
_PRODUCTS = {torch.matmul: 0, Tensor.matmul: 0, Tensor.__matmul__: 0, torch.mm: 0, Tensor.mm: 0, torch.addmm: 1}
_BLOCK = 256  # rows of a second moment computed at a time
_SQUARED_VALUES = 2**24  # of a gradient, squared at a time: 64 MiB


class Place(NamedTuple):
    """Rows start..stop of a parameter seen as a matrix (all but its last dimension, its last dimension)."""

    name: str
    start: int
    stop: int
    flipped: bool = False  # the tensor is the transpose of these rows


class Use(NamedTuple):
    """Rows of a parameter in a product."""

    name: str
    start: int
    stop: int
    rows_are_outputs: bool


class _Product(NamedTuple):
    """x^T x of the latest input; `version` tells whether x was changed since."""

    x: Tensor
    version: int
    moment: Tensor


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


class Watch(TorchFunctionMode):
    """Accumulates second moments while active.

    `output_rows`: of matrices of at most so many rows the output gradients' second moments are kept too; 0: of none.
    `moments`, `squares`, `outputs`: use -> sum over tokens; `n_rows`: use -> how many there were, which of an expert
    are fewer than all; `look_ups`: table -> (counts, second moments).
    """

    def __init__(self, parameters: Mapping[str, Tensor], output_rows: int) -> None:
        super().__init__()
        self.parameters = {id(tensor): (tensor, whole(name, tensor)) for name, tensor in parameters.items()}
        self.known = dict(self.parameters)  # id of a live tensor -> (tensor, its place)
        self.output_rows = output_rows
        self.moments: dict[Use, Tensor] = {}
        self.squares: dict[Use, Tensor] = {}
        self.outputs: dict[Use, Tensor] = {}
        self.n_rows: Counter[Use] = Counter()
        self.look_ups: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.latest: Use | None = None  # of products that are added: after a whole run, the output matrix's
        self._latest: _Product | None = None
        self._replaying = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.embedding and id(args[1]) in self.known:
            result = _with_gradient(result)
            self._look_up(args[0], result, args[1], self.known[id(args[1])][1].name)
        elif func is F.linear and (place := self._place(args[1])):
            result = _with_gradient(result)
            self._see(args[0], result, place, not place.flipped)
        elif func in _PRODUCTS and len(args) > _PRODUCTS[func] + 1:
            at = _PRODUCTS[func]
            if place := self._place(args[at + 1]):
                result = _with_gradient(result)
                self._see(args[at], result, place, place.flipped)
            elif at == 0 and (place := self._place(args[0])) and args[1].ndim > 1:
                columns = _with_gradient(result.mT)
                self._see(args[1].mT, columns, place, not place.flipped)
                result = columns.mT
        elif func in _CASTS and args and isinstance(result, Tensor) and (place := self._place(args[0])):
            self.known[id(result)] = (result, place)
        return result

    def forget(self) -> None:
        """Drop tensors that belong to the finished batch (their ids may be reused)."""
        self.known = dict(self.parameters)
        self._latest = None

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Casts of weights that are made in this block are let go at its end."""
        known = self.known
        self.known = dict(known)
        try:
            yield
        finally:
            self.known = known

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """What runs in this block is watched, so that it does what it does under watch, and nothing is added."""
        self._replaying = True
        try:
            with self:
                yield
        finally:
            self._replaying = False

    def _place(self, tensor: Any) -> Place | None:
        """Where in a parameter a tensor is: known itself, or a view of a tensor that is."""
        if id(tensor) in self.known:
            return self.known[id(tensor)][1]
        base = tensor._base if isinstance(tensor, Tensor) else None
        if base is None or id(base) not in self.known:
            return None
        return _part(self.known[id(base)][1], base, tensor)

    def _see(self, x: Tensor, y: Tensor, place: Place, rows_are_outputs: bool) -> None:
        """Record y = x W^T, or y = x W. What the gradient tells is added when it comes."""
        use = Use(*place[:3], rows_are_outputs)
        if x.ndim < 1 or x.shape[-1] == 0 or y.ndim < 1:
            return
        if self._replaying:  # room is made before activations come and go, which would leave holes between sums
            if use not in self.moments:
                n = (x if rows_are_outputs else y).shape[-1]
                self.moments[use] = torch.zeros(n, n, device=x.device)
            return
        self.n_rows[use] += x.shape[:-1].numel()
        self.latest = use
        if not rows_are_outputs:
            rows = _rows(x)
            _add(self.squares, use, _squares(rows))
            if rows.shape[-1] <= self.output_rows:
                _add(self.outputs, use, self._moment(x))
            if y.requires_grad:
                y.register_hook(lambda gradient: _add(self.moments, use, _second_moment(gradient)))  # type: ignore[no-untyped-call]
            return
        _add(self.moments, use, self._moment(x))
        if y.requires_grad:
            y.register_hook(lambda gradient: self._add_square(use, gradient))  # type: ignore[no-untyped-call]

    def _moment(self, x: Tensor) -> Tensor:
        """x^T x, once for all products that one input goes into (q, k and v; gate and up)."""
        latest = self._latest
        if latest is None or latest.x is not x or latest.version != x._version:
            latest = self._latest = _Product(x, x._version, _second_moment(x))
        return latest.moment

    def _look_up(self, ids: Tensor, rows: Tensor, table: Tensor, name: str) -> None:
        """Record how often each row of a table is looked up, and the second moments of the loss gradient there."""
        if self._replaying:
            return
        counts = torch.bincount(ids.reshape(-1), minlength=len(table)).float()
        before, moment = self.look_ups.get(name, (None, None))
        self.look_ups[name] = (counts if before is None else before + counts, moment)
        if rows.requires_grad:
            rows.register_hook(lambda gradient: self._add_look_up(name, gradient))  # type: ignore[no-untyped-call]

    def _add_look_up(self, name: str, gradient: Tensor) -> None:
        moment = _second_moment(gradient)
        counts, before = self.look_ups[name]
        self.look_ups[name] = (counts, moment if before is None else before.add_(moment))

    def _add_square(self, use: Use, gradient: Tensor) -> None:
        flat = _rows(gradient)
        _add(self.squares, use, _squares(flat))
        if flat.shape[-1] <= self.output_rows and use.name not in self.look_ups:
            _add(self.outputs, use, _second_moment(gradient))


def _with_gradient(result: Tensor) -> Tensor:
    """The result, made to need a gradient where gradients are recorded; no leaf: it may be changed in place."""
    if result.requires_grad or not torch.is_grad_enabled() or not result.is_floating_point():
        return result
    return result.requires_grad_().clone()


def _rows(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1]).float()


def _squares(rows: Tensor) -> Tensor:
    """Sums of squares down the columns. Shape: (n, out) -> (out,)."""
    if rows.numel() <= _SQUARED_VALUES:
        return rows.square().sum(0)
    parts = torch.split(rows, max(1, _SQUARED_VALUES // rows.shape[-1]))
    return torch.stack([part.square().sum(0) for part in parts]).sum(0)


def _second_moment(x: Tensor) -> Tensor:
    """The sum over tokens of x x^T, of which the upper triangle of blocks is computed. Shape: (..., n) -> (n, n).

    No bit differs from the whole product's; for n 1,536 it takes 0.54 of its time.
    """
    rows = _rows(x)
    n = rows.shape[-1]
    moment = torch.empty(n, n, device=rows.device)
    for start in range(0, n, _BLOCK):
        stop = start + _BLOCK
        moment[start:stop, start:] = rows[:, start:stop].T @ rows[:, start:]
        moment[stop:, start:stop] = moment[start:stop, stop:].T
    return moment


def _add(sums: dict[Use, Tensor], use: Use, value: Tensor) -> None:
    """Add in place; the first value is copied, for products share it."""
    if use in sums:
        sums[use].add_(value)
    else:
        sums[use] = value.clone()
