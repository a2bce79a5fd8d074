"""Calibration from a running model: watches every product x W^T whose W is a parameter. Needs torch.

Works on any nn.Module: it intercepts the operations themselves (torch function mode), so tied embeddings used as
output matrices, functional calls and subclasses of Linear are all seen; no module needs to be of a known class.

    F.linear(x, W)    x @ W.T    torch.matmul(x, W.T)      W a parameter, or a cast or transpose of one
    F.embedding(ids, W)                                    a look-up, recorded as NAME.lookup
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .calibration import LOOKUP, Calibration, from_arrays
from .errors import CalibrationError

_CASTS = {Tensor.to, Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.type_as, Tensor.contiguous}
_TRANSPOSES: set[Any] = {Tensor.t, Tensor.transpose, *(getattr(Tensor, p).__get__ for p in ("T", "mT"))}
_LARGEST_OUTPUT = 4096  # rows of a matrix whose output gradients are kept together: 64 MiB
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}


class _Watch(TorchFunctionMode):
    """Accumulates second moments while active. `known`: id of a live tensor -> (tensor, name, is transposed)."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.parameters = {id(tensor): (tensor, name, False) for name, tensor in parameters.items()}
        self.known = dict(self.parameters)
        self.moments: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.embedding and id(args[1]) in self.known:
            self._look_up(args[0], result, args[1], self.known[id(args[1])][1])
        elif func is F.linear and id(args[1]) in self.known:
            self._see(args[0], result, *self.known[id(args[1])][1:])
        elif func in _PRODUCTS and len(args) > 1 and id(args[1]) in self.known:
            _, name, transposed = self.known[id(args[1])]
            self._see(args[0], result, name, not transposed)
        elif args and isinstance(result, Tensor) and id(args[0]) in self.known:
            _, name, transposed = self.known[id(args[0])]
            if func in _CASTS:
                self.known[id(result)] = (result, name, transposed)
            elif func in _TRANSPOSES and result.ndim == 2:
                self.known[id(result)] = (result, name, not transposed)
        return result

    def forget(self) -> None:
        """Drop tensors that belong to the finished batch (their ids may be reused)."""
        self.known = dict(self.parameters)

    def _see(self, x: Tensor, y: Tensor, name: str, transposed: bool) -> None:
        """Record y = x W^T. A product with W itself (transposed) is not a row-wise layer and is left out."""
        if transposed:
            return
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        moment = rows.T @ rows
        self.moments[name] = self.moments[name] + moment if name in self.moments else moment
        if y.requires_grad:
            y.register_hook(lambda gradient: self._add_square(name, gradient))

    def _look_up(self, ids: Tensor, rows: Tensor, table: Tensor, name: str) -> None:
        """Record how often each row of a table is looked up, and the second moments of the loss gradient there."""
        key = name + LOOKUP
        counts = torch.bincount(ids.reshape(-1), minlength=len(table)).float()
        self.squares[key] = self.squares[key] + counts if key in self.squares else counts
        if rows.requires_grad:
            rows.register_hook(lambda gradient: self._add_moment(key, gradient))

    def _add_moment(self, key: str, gradient: Tensor) -> None:
        flat = gradient.detach().reshape(-1, gradient.shape[-1]).float()
        moment = flat.T @ flat
        self.moments[key] = self.moments[key] + moment if key in self.moments else moment

    def _add_square(self, name: str, gradient: Tensor) -> None:
        flat = gradient.detach().reshape(-1, gradient.shape[-1]).float()
        square = flat.square().sum(0)
        self.squares[name] = self.squares[name] + square if name in self.squares else square
        if flat.shape[-1] <= _LARGEST_OUTPUT and name + LOOKUP not in self.squares:
            output = flat.T @ flat
            self.outputs[name] = self.outputs[name] + output if name in self.outputs else output


def observe(
    model: nn.Module,
    tokens: NDArray[np.integer[Any]],
    seq_len: int,
    *,
    token_digest: str,
    batch_tokens: int = 8192,
    seed: int = 0,
    look_ups: NDArray[np.integer[Any]] | None = None,
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

    Raises CalibrationError when there are fewer tokens than one window.
    """
    n_windows = len(tokens) // seq_len
    if n_windows < 1:
        raise CalibrationError(f"{len(tokens)} calibration tokens are fewer than one window of {seq_len}")
    parameters = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    device = next(model.parameters()).device
    generator = torch.Generator(device="cpu").manual_seed(seed)
    watch = _Watch(parameters)
    was_training = model.training
    model.eval()
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    windows = np.asarray(tokens[: n_windows * seq_len]).astype(np.int64).reshape(n_windows, seq_len)
    for ids in _batches(windows, max(1, batch_tokens // seq_len)):
        with watch:
            logits = _logits(model, torch.from_numpy(ids).to(device))
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
    arrays = {f"{name}.hessian": (m / n_tokens).cpu().numpy() for name, m in watch.moments.items()}
    arrays |= {f"{name}.fisher": (s / n_tokens).cpu().numpy() for name, s in watch.squares.items()}
    if look_ups is not None:
        arrays |= _token_shares(arrays, windows, np.asarray(look_ups))
    arrays |= {f"{name}.output": (m / n_tokens).cpu().numpy() for name, m in watch.outputs.items()}
    return from_arrays(arrays, token_digest, n_tokens)


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


def _batches(windows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(windows), size):
        yield windows[start : start + size]


def _logits(model: nn.Module, ids: Tensor) -> Tensor:
    forward: Any = getattr(model, "forward_logits", model)
    logits: Tensor = forward(ids)
    return logits


def uncovered(calibration: Calibration, shapes: dict[str, tuple[int, ...]]) -> Sequence[str]:
    """Matrices (2-D or more) of a checkpoint that calibration saw no product of."""
    seen = {name.removesuffix(LOOKUP) for name in calibration.names}
    return [name for name, shape in shapes.items() if len(shape) >= 2 and name not in seen]
