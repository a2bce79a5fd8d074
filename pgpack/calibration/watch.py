"""Watches every product of activations with a parameter and keeps what calibration needs of it. Needs torch.

    x W^T     rows of W are outputs: second moments of x, squares of the loss gradient at y
    x W       rows of W are inputs: second moments of the gradient at y, squares of x
    W[ids]    a look-up: counts, second moments of the gradient at the rows looked up; one that all windows of a batch
              share (positions, distances) counts for each of them

Owns the sums. Weights need no gradient: a product or look-up whose input needs none is made to need one itself, so
that gradients of activations are all that is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from .pace import Pace
from .products import Place, Products

_BLOCK = 256  # rows of a second moment computed at a time
_SQUARED_VALUES = 2**24  # of a gradient, squared at a time: 64 MiB


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


class Watch(Products):
    """Accumulates second moments while active.

    `output_rows`: of matrices of at most so many rows the output gradients' second moments are kept too; 0: of none.
    `moments`, `squares`, `outputs`: use -> sum over tokens; `n_rows`: use -> how many there were, which of an expert
    are fewer than all; `look_ups`: table -> (counts, second moments), without `not_looked_up`. `batch`: the shape of
    the ids that are run.
    """

    def __init__(self, parameters: Mapping[str, Tensor], output_rows: int, pace: Pace | None = None) -> None:
        super().__init__(parameters)
        self.pace = Pace(lambda n: None) if pace is None else pace
        self.output_rows = output_rows
        self.moments: dict[Use, Tensor] = {}
        self.squares: dict[Use, Tensor] = {}
        self.outputs: dict[Use, Tensor] = {}
        self.n_rows: Counter[Use] = Counter()
        self.look_ups: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.not_looked_up: set[str] = set()  # tables whose rows were multiplied after all
        self.batch = torch.Size((1, 1))
        self.latest: Use | None = None  # of products that are added: after a whole run, the output matrix's
        self._latest: _Product | None = None
        self._paced: Tensor | None = None
        self._replaying = False

    def result(self, y: Tensor) -> Tensor:
        return _with_gradient(y)

    def forget(self) -> None:
        super().forget()
        self._latest = self._paced = None

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """What runs in this block is watched, so that it does what it does under watch, and nothing is added."""
        self._replaying = True
        try:
            with self:
                yield
        finally:
            self._replaying = False

    def product(self, x: Tensor, y: Tensor, place: Place, rows_are_outputs: bool) -> None:
        """Recorded at once; what the gradient tells is added when it comes."""
        use = Use(*place[:3], rows_are_outputs)
        if x.ndim < 1 or x.shape[-1] == 0 or y.ndim < 1:
            return
        n_tokens, n_in, n_out = x.shape[:-1].numel(), x.shape[-1], y.shape[-1]
        fresh = rows_are_outputs and x is not self._paced  # q, k and v share one second moment
        self._paced = x
        self.pace.forward(n_tokens, n_in, n_out, n_in if fresh else 0)
        if y.requires_grad and not self._replaying:
            y.register_hook(lambda _: self.pace.backward(n_tokens, n_in, n_out))  # type: ignore[no-untyped-call]
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

    def looked_up(self, ids: Tensor, rows: Tensor, table: Tensor, name: str) -> None:
        """Record how often each row of a table is looked up, and the second moments of the loss gradient there."""
        if self._replaying:
            return
        counts = torch.bincount(
            ids.reshape(-1).to(table.device), minlength=len(table)
        ).float() * self._windows_sharing(ids)
        before, moment = self.look_ups.get(name, (None, None))
        self.look_ups[name] = (counts if before is None else before + counts, moment)
        if rows.requires_grad:
            rows.register_hook(lambda gradient: self._add_look_up(name, gradient))  # type: ignore[no-untyped-call]

    def multiplied(self, name: str) -> None:
        self.not_looked_up.add(name)

    def _windows_sharing(self, ids: Tensor) -> int:
        """How many windows of the batch each of these look-ups is for."""
        n_windows = self.batch[0]
        own = ids.numel() == self.batch.numel() or (ids.ndim > 1 and len(ids) == n_windows)
        return 1 if own else n_windows

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
