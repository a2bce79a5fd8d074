"""Second moments of inputs and of loss gradients, together and apart, with several kinds of labels.

    H = mean x x^T        f = mean d^2         as in `pgpack.calibration.observe`: x input, d loss gradient at the
    output H_d = mean |d|^2 x x^T / mean |d|^2        inputs weighted by what their token's output matters
    G = mean d d^T                             rows together: the other factor of the Kronecker approximation

A matrix that runs several times sums over its runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgpack.calibration.calibration import LOOKUP
from pgpack.calibration.observe import _Watch
from pgtrain.workbench import Text

Arrays = dict[str, NDArray[np.float32]]
BATCH_WINDOWS = 16
LARGEST = 4096  # rows: larger matrices get no G
LABELS = ("sampled", "text", "probe")


class _Gradients(_Watch):
    """Accumulates the sums of this module's head."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(parameters)
        self.weighted: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}

    def _see(self, x: Tensor, y: Tensor, name: str, transposed: bool) -> None:
        if transposed:
            return
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        _add(self.moments, name, rows.T @ rows)
        y.register_hook(lambda gradient: self._with_gradient(name, rows, gradient))

    def _with_gradient(self, name: str, rows: Tensor, gradient: Tensor) -> None:
        flat = gradient.detach().reshape(-1, gradient.shape[-1]).float()
        squares = flat.square()
        _add(self.squares, name, squares.sum(0))
        _add(self.weighted, name, (rows * squares.sum(1, keepdim=True)).T @ rows)
        if flat.shape[-1] <= LARGEST:
            _add(self.outputs, name, flat.T @ flat)


def _add(sums: dict[str, Tensor], name: str, term: Tensor) -> None:
    sums[name] = sums[name] + term if name in sums else term


def logit_gradients(logits: Tensor, ids: Tensor, labels: str, generator: torch.Generator) -> Tensor:
    """What to send back from the logits, so that its second moment is (an estimate of) the Fisher information.

    `sampled`: labels drawn from the model, p - e_y. `text`: the text's own next token (the empirical Fisher), none
    at the end of a window. `probe`: sqrt(p) z - p (sqrt(p) . z) with normal z, whose covariance is diag p - p p^T.
    Shape: logits (B, T, V), ids (B, T); the result (B T, V).
    """
    flat = logits.detach().reshape(-1, logits.shape[-1]).float()
    p = flat.softmax(-1)
    if labels == "probe":
        z = p.sqrt() * torch.randn(p.shape, generator=generator)
        return z - p * z.sum(-1, keepdim=True)
    if labels == "sampled":
        noise = torch.rand(len(flat), 1, generator=generator)
        chosen = (p.cumsum(-1) < noise).sum(-1).clamp(max=p.shape[-1] - 1)
        return p - nn.functional.one_hot(chosen, p.shape[-1])
    following = torch.roll(ids, -1, dims=1)
    found = (p - nn.functional.one_hot(following.reshape(-1), p.shape[-1])).view(*ids.shape, -1)
    found[:, -1] = 0
    return found.view(p.shape)


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    parameters = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


def _windows(text: Text, n_tokens: int) -> NDArray[np.int64]:
    return text.calib_tokens[:n_tokens].astype(np.int64).reshape(-1, text.seq_len)


def gradient_moments(
    text: Text, tensors: Mapping[str, Any], n_tokens: int, labels: str = "sampled", draws: int = 1, seed: int = 0
) -> Arrays:
    """NAME.hessian, .fisher, .weighted (H_d), .output (G) of every matrix, and the look-ups as in a calibration."""
    model = text.build({name: torch.tensor(array) for name, array in tensors.items()})
    watch = _Gradients(_trainable(model))
    generator = torch.Generator().manual_seed(seed)
    windows = _windows(text, n_tokens)
    for start in range(0, len(windows), BATCH_WINDOWS):
        ids = torch.from_numpy(windows[start : start + BATCH_WINDOWS])
        with watch:
            logits = model.forward_logits(ids)  # type: ignore[operator]
        flat = logits.reshape(-1, logits.shape[-1])
        for draw in range(draws):
            flat.backward(logit_gradients(logits, ids, labels, generator), retain_graph=draw < draws - 1)
        model.zero_grad(set_to_none=True)
        watch.forget()
    return _arrays(watch, windows.size, draws)


def _arrays(watch: _Gradients, n: int, draws: int) -> Arrays:
    """Means per token. A look-up's count comes from the forward pass, its moments from each draw."""
    found = {}
    for name, moment in watch.moments.items():
        found[f"{name}.hessian"] = moment / n / (draws if name.endswith(LOOKUP) else 1)
    for name, square in watch.squares.items():
        found[f"{name}.fisher"] = square / n / (1 if name.endswith(LOOKUP) else draws)
    for name, weighted in watch.weighted.items():
        found[f"{name}.weighted"] = weighted / watch.squares[name].sum().clamp(min=1e-30)
    for name, output in watch.outputs.items():
        found[f"{name}.output"] = output / n / draws
    return {key: array.numpy() for key, array in found.items()}


def whole_gradients(text: Text, tensors: Mapping[str, Any], n_tokens: int, seed: int = 0) -> dict[str, float]:
    """Mean squared norm of each matrix's own gradient over windows, per token: what f tr H estimates, were the tokens
    of a window independent."""
    model = text.build({name: torch.tensor(array) for name, array in tensors.items()})
    parameters = _trainable(model)
    generator = torch.Generator().manual_seed(seed)
    sums = dict.fromkeys(parameters, 0.0)
    windows = _windows(text, n_tokens)
    for window in windows:
        ids = torch.from_numpy(window)[None]
        logits = model.forward_logits(ids)  # type: ignore[operator]
        logits.reshape(-1, logits.shape[-1]).backward(logit_gradients(logits, ids, "sampled", generator))
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                sums[name] += float(parameter.grad.square().sum())
        model.zero_grad(set_to_none=True)
    return {name: total / windows.size for name, total in sums.items()}
