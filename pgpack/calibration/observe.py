"""Calibration from a running model: watches every product of activations with a parameter. Needs torch.

Works on any nn.Module: it intercepts the operations themselves (torch function mode), so tied embeddings used as
output matrices, functional calls and subclasses of Linear are all seen; no module needs to be of a known class.

    F.linear(x, W)    x @ W.T        rows of W are outputs: second moments of x, squares of the loss gradient at y
    x @ W             addmm          rows of W are inputs: second moments of the gradient at y, squares of x
    F.embedding(ids, W)              a look-up, recorded as NAME.lookup

W is a parameter, a cast, transpose or run of rows of one, or a matrix of a stack: `bank[i]`, `factors[use]`. What is
seen of the parts of one tensor is joined in `_joined`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pgpack.checkpoint.parameters import held_tensors, told_names
from pgpack.errors import CalibrationError
from pgpack.loss.bpb import logits_of

from .calibration import LOOKUP, Calibration, from_arrays

Arrays = dict[str, NDArray[np.float32]]
_CASTS = {Tensor.to, Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.type_as, Tensor.contiguous}
_LARGEST_OUTPUT = 4096  # rows of a matrix whose output gradients are kept together: 64 MiB
_PRODUCTS = {torch.matmul: 0, Tensor.matmul: 0, Tensor.__matmul__: 0, torch.mm: 0, Tensor.mm: 0, torch.addmm: 1}
_TINY = 1e-30


class _Place(NamedTuple):
    """Rows start..stop of a parameter seen as a matrix (all but its last dimension, its last dimension)."""

    name: str
    start: int
    stop: int
    flipped: bool = False  # the tensor is the transpose of these rows


class _Use(NamedTuple):
    """Rows of a parameter in a product."""

    name: str
    start: int
    stop: int
    rows_are_outputs: bool


def _whole(name: str, parameter: Tensor) -> _Place:
    return _Place(name, 0, int(np.prod(parameter.shape[:-1], dtype=np.int64)))


def _part(place: _Place, base: Tensor, view: Tensor) -> _Place | None:
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
        return _Place(place.name, start, start + n)
    if n == cols and (row == 1 or n == 1) and (col == cols or m == 1):
        return _Place(place.name, start, start + m, True)
    return None


class _Watch(TorchFunctionMode):
    """Accumulates second moments while active. `known`: id of a live tensor -> (tensor, its place)."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.parameters = {id(tensor): (tensor, _whole(name, tensor)) for name, tensor in parameters.items()}
        self.known = dict(self.parameters)
        self.moments: dict[_Use, Tensor] = {}
        self.squares: dict[_Use, Tensor] = {}
        self.outputs: dict[_Use, Tensor] = {}
        self.look_ups: dict[str, tuple[Tensor, Tensor | None]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.embedding and id(args[1]) in self.known:
            self._look_up(args[0], result, args[1], self.known[id(args[1])][1].name)
        elif func is F.linear and (place := self._place(args[1])):
            self._see(args[0], result, place, not place.flipped)
        elif func in _PRODUCTS and len(args) > _PRODUCTS[func] + 1:
            at = _PRODUCTS[func]
            if place := self._place(args[at + 1]):
                self._see(args[at], result, place, place.flipped)
        elif func in _CASTS and args and isinstance(result, Tensor) and (place := self._place(args[0])):
            self.known[id(result)] = (result, place)
        return result

    def forget(self) -> None:
        """Drop tensors that belong to the finished batch (their ids may be reused)."""
        self.known = dict(self.parameters)

    def _place(self, tensor: Any) -> _Place | None:
        """Where in a parameter a tensor is: known itself, or a view of a tensor that is."""
        if id(tensor) in self.known:
            return self.known[id(tensor)][1]
        base = tensor._base if isinstance(tensor, Tensor) else None
        if base is None or id(base) not in self.known:
            return None
        return _part(self.known[id(base)][1], base, tensor)

    def _see(self, x: Tensor, y: Tensor, place: _Place, rows_are_outputs: bool) -> None:
        """Record y = x W^T, or y = x W. What the gradient tells is added when it comes."""
        use = _Use(*place[:3], rows_are_outputs)
        if x.ndim < 1 or x.shape[-1] == 0 or y.ndim < 1:
            return
        if not rows_are_outputs:
            rows = _rows(x)
            _add(self.squares, use, rows.square().sum(0))
            if rows.shape[-1] <= _LARGEST_OUTPUT:
                _add(self.outputs, use, rows.T @ rows)
            if y.requires_grad:
                y.register_hook(lambda gradient: _add_moment(self.moments, use, gradient))
            return
        _add_moment(self.moments, use, x)
        if y.requires_grad:
            y.register_hook(lambda gradient: self._add_square(use, gradient))

    def _look_up(self, ids: Tensor, rows: Tensor, table: Tensor, name: str) -> None:
        """Record how often each row of a table is looked up, and the second moments of the loss gradient there."""
        counts = torch.bincount(ids.reshape(-1), minlength=len(table)).float()
        before, moment = self.look_ups.get(name, (None, None))
        self.look_ups[name] = (counts if before is None else before + counts, moment)
        if rows.requires_grad:
            rows.register_hook(lambda gradient: self._add_look_up(name, gradient))

    def _add_look_up(self, name: str, gradient: Tensor) -> None:
        flat = _rows(gradient)
        counts, before = self.look_ups[name]
        self.look_ups[name] = (counts, flat.T @ flat if before is None else before + flat.T @ flat)

    def _add_square(self, use: _Use, gradient: Tensor) -> None:
        flat = _rows(gradient)
        _add(self.squares, use, flat.square().sum(0))
        if flat.shape[-1] <= _LARGEST_OUTPUT and use.name not in self.look_ups:
            _add(self.outputs, use, flat.T @ flat)


def _rows(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1]).float()


def _add(sums: dict[_Use, Tensor], use: _Use, value: Tensor) -> None:
    sums[use] = sums[use] + value if use in sums else value


def _add_moment(sums: dict[_Use, Tensor], use: _Use, x: Tensor) -> None:
    rows = _rows(x)
    _add(sums, use, rows.T @ rows)


def observe(
    model: nn.Module,
    tokens: NDArray[np.integer[Any]],
    seq_len: int,
    *,
    token_digest: str,
    batch_tokens: int = 8192,
    seed: int = 0,
    look_ups: NDArray[np.integer[Any]] | None = None,
    stored: Collection[str] | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Calibration:
    """Hessians and Fisher weights of every matrix of `model` over `tokens`, in windows of `seq_len`.

    Besides, the second moments of output gradients of every matrix of at most _LARGEST_OUTPUT rows that is no tied
    table (there a label moves one row of the softmax against all: nothing to gain, 0.003 bits a weight on the demo).

    Fisher weights use labels sampled from the model's own distribution (the true Fisher, not the empirical one;
    Kunstner et al. 2019, arXiv:1905.12558), one sample per token.

    `look_ups`: more text, whose tokens are only counted: the shares of tables that are looked up by token are taken
    from there. Rows that 32,768 tokens never ask for are still asked for later: counted over the 0.65 M tokens of the
    demo's calibration text, 1.8 % smaller at equal KL.

    `stored`: the names of the checkpoint, by which prefixes of wrappers are told from names
    (`pgpack.checkpoint.parameters`).

    Raises CalibrationError when there are fewer tokens than one window.
    """
    n_windows = len(tokens) // seq_len
    if n_windows < 1:
        raise CalibrationError(f"{len(tokens)} calibration tokens are fewer than one window of {seq_len}")
    parameters = {name: p for name, p in model.named_parameters() if p.ndim >= 2}
    device = next(model.parameters()).device
    generator = torch.Generator(device="cpu").manual_seed(seed)
    watch = _Watch(parameters)
    was_training = model.training
    model.eval()
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    windows = np.asarray(tokens[: n_windows * seq_len]).astype(np.int64).reshape(n_windows, seq_len)
    size = max(1, batch_tokens // seq_len)
    for start in range(0, n_windows, size):
        ids = windows[start : start + size]
        with watch:
            logits = logits_of(model, torch.from_numpy(ids).to(device))
        flat = logits.reshape(-1, logits.shape[-1]).float()
        with torch.no_grad():
            noise = torch.rand(len(flat), 1, generator=generator).to(device)
            labels = (flat.softmax(-1).cumsum(-1) < noise).sum(-1).clamp(max=flat.shape[-1] - 1)
        F.cross_entropy(flat, labels, reduction="sum").backward()
        model.zero_grad(set_to_none=True)
        watch.forget()
        progress(ids.size)
    model.train(was_training)
    n_tokens = n_windows * seq_len
    held = held_tensors(
        {name: tuple(p.shape) for name, p in parameters.items()}, stored, told_names(model.named_modules())
    )
    arrays = _arrays(watch, held, {name: _whole(name, p).stop for name, p in parameters.items()}, n_tokens)
    if look_ups is not None:
        arrays |= _token_shares(arrays, windows, np.asarray(look_ups))
    return from_arrays(arrays, token_digest, n_tokens)


class _Seen(NamedTuple):
    """Statistics of rows start..stop of a tensor, means over tokens. Shape: hessian (in, in), fisher (rows,)."""

    start: int
    stop: int
    hessian: NDArray[np.float32]
    fisher: NDArray[np.float32] | None
    output: NDArray[np.float32] | None


def _arrays(watch: _Watch, held: Mapping[str, tuple[str, ...]], rows: Mapping[str, int], n_tokens: int) -> Arrays:
    """Everything that was seen, by the names of the checkpoint; keys as in `pgpack.calibration.calibration`."""

    def mean(total: Tensor | None) -> NDArray[np.float32] | None:
        return None if total is None else (total / n_tokens).cpu().numpy()

    seen: dict[str, list[_Seen]] = defaultdict(list)
    sizes = {}
    for use, moment in watch.moments.items():
        names = held[use.name]
        each = max(1, rows[use.name] // len(names))
        index, start = divmod(use.start, each)
        if start + use.stop - use.start > each:
            continue  # a product with several matrices of a bank at once
        square, output = (mean(sums.get(use)) for sums in (watch.squares, watch.outputs))
        hessian = (moment / n_tokens).cpu().numpy()
        seen[names[index]].append(_Seen(start, start + use.stop - use.start, hessian, square, output))
        sizes[names[index]] = each
    arrays: Arrays = {}
    for name, uses in seen.items():
        whole = uses[0] if len(uses) == 1 and uses[0][:2] == (0, sizes[name]) else _joined(uses, sizes[name])
        kinds = {"hessian": whole.hessian, "fisher": whole.fisher, "output": whole.output}
        arrays |= {f"{name}.{kind}": array for kind, array in kinds.items() if array is not None}
    for name, (counts, gradients) in watch.look_ups.items():
        table = {"fisher": mean(counts), "hessian": mean(gradients)}
        arrays |= {f"{held[name][0]}{LOOKUP}.{kind}": array for kind, array in table.items() if array is not None}
    return arrays


def _joined(uses: Sequence[_Seen], rows: int) -> _Seen:
    """One Hessian, and a weight for each row, of a tensor whose rows take part in products of their own.

    Use k makes an error e of row r cost f_kr e H_k e. That is taken as f_r e H e with f_r the sum of
    f_kr tr H_k / tr H and H the mean of the H_k / tr H_k, weighted by what all rows cost there.
    """
    traces = [max(float(np.trace(use.hessian)), _TINY) for use in uses]
    weights = [  # what all rows of a use cost
        t * (float(use.fisher.sum()) if use.fisher is not None else 1.0) for use, t in zip(uses, traces, strict=True)
    ]
    total = max(sum(weights), _TINY)
    trace = max(sum(w * t for w, t in zip(weights, traces, strict=True)) / total, _TINY)
    hessian = np.zeros_like(uses[0].hessian)
    fisher = np.zeros(rows, np.float32)
    for use, own, weight in zip(uses, traces, weights, strict=True):
        hessian += use.hessian * np.float32(weight / total * trace / own)
        if use.fisher is not None:
            fisher[use.start : use.stop] += use.fisher * np.float32(own / trace)
    known = all(use.fisher is not None for use in uses)
    return _Seen(0, rows, hessian, fisher if known else None, None)


def _token_shares(
    arrays: Mapping[str, NDArray[np.float32]], windows: NDArray[np.int64], look_ups: NDArray[np.integer[Any]]
) -> dict[str, NDArray[np.float32]]:
    """Shares counted in `look_ups`, of the tables that the tokens of `windows`, and nothing else, looked up."""
    found = {}
    for key, shares in arrays.items():
        seen = np.bincount(windows.reshape(-1), minlength=len(shares))
        if not key.endswith(f"{LOOKUP}.fisher") or not np.array_equal(np.rint(shares * windows.size), seen):
            continue
        found[key] = (np.bincount(look_ups, minlength=len(shares)) / max(1, len(look_ups))).astype(np.float32)
    return found


def uncovered(calibration: Calibration, shapes: Mapping[str, tuple[int, ...]]) -> Sequence[str]:
    """Matrices (2-D or more) of a checkpoint that calibration saw no product of."""
    seen = {name.removesuffix(LOOKUP) for name in calibration.names}
    return [name for name, shape in shapes.items() if len(shape) >= 2 and name not in seen]
