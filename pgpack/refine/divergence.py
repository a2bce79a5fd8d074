"""KL from an fp32 model to the same model with other weights, on batches of calibration text, with gradients.

    weights by stored name --model--> log p      KL(fp32 model || this one), nats per token

What `pgpack.refine.tuning` and `pgpack.refine.compensate` descend on. Needs torch. Evaluated text is the caller's
to keep out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from pgpack.checkpoint.parameters import held_tensors, told_names
from pgpack.errors import CalibrationError, RecipeError
from pgpack.loss.bpb import Build
from pgpack.loss.head import WHOLE_BYTES, Split, Splitter, logits_of, slices
from pgpack.tables import counted_are

from .fresh_text import CHECKED, Tokens

WARM_UP = 5  # steps


class Batches:
    """Windows of calibration text in batches; every CHECKED-th is kept back (the last one, if there are few).

    Raises RecipeError when there is less than 1 token to a batch, CalibrationError below two windows of tokens.
    """

    def __init__(self, tokens: Tokens, seq_len: int, batch_tokens: int, device: str) -> None:
        if batch_tokens < 1:
            raise RecipeError(f"tuning needs batches of at least 1 token, found {batch_tokens}")
        n = len(tokens) // seq_len
        if n < 2:
            raise CalibrationError(
                f"{counted_are(len(tokens), 'calibration token')} fewer than two windows of {seq_len}"
            )
        windows = torch.from_numpy(np.asarray(tokens[: n * seq_len]).astype(np.int64)).view(n, seq_len).to(device)
        size = min(max(1, batch_tokens // seq_len), n // 2)
        parts = list(torch.split(windows, size))
        self.checked = parts[CHECKED - 1 :: CHECKED] or parts[-1:]
        self.trained = [part for i, part in enumerate(parts) if not any(part is kept for kept in self.checked)]

    def shuffled(self, seed: int) -> Iterator[Tensor]:
        """Training batches without end, in a new order each time round."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            for i in torch.randperm(len(self.trained), generator=generator).tolist():
                yield self.trained[i]


def warmed(optimizer: torch.optim.Optimizer, count: int, batches: Iterator[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Steps and their batches, gradients at zero; each group's rate rises to its `base`, then falls to zero."""
    for step, ids in zip(range(count), batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * min(1.0, (step + 1) / WARM_UP) * (1 - step / count)
        optimizer.zero_grad()
        yield step, ids


class _Output(nn.Module):
    """A model seen as a function from ids to hidden states and the head that makes logits of some of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.splitter: Splitter | None = None

    def forward(self, ids: Tensor) -> Split:
        if self.splitter is None:
            with torch.no_grad():
                self.splitter = Splitter(logits_of(self.model, ids[:1, :2]).shape[-1])
        return self.splitter(self.model, ids)


class _Differentiated(torch.autograd.Function):
    """A number whose gradients with respect to `tensors` are known already."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, gradients: list[Tensor | None], *tensors: Tensor) -> Tensor:
        ctx.gradients = gradients
        return number.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if each is None else outer[0] * each for each in ctx.gradients)


def _sum_kl(expected: Split, before: Tensor, found: Split, after: Tensor) -> Tensor:
    """Sum over tokens, of their hidden states `before` and `after`."""
    p, q = (F.log_softmax(split.head(hidden), dim=-1) for split, hidden in ((expected, before), (found, after)))
    return (p.exp() * (p - q)).sum()


class Divergence:
    """One model twice: with its fp32 weights, and with any other weights of the same shapes.

    `reference`: name -> fp32 array, tied names included; `aliases`: tied name -> stored name.
    """

    def __init__(
        self, build: Build, reference: Mapping[str, NDArray[np.float32]], aliases: Mapping[str, str], device: str
    ) -> None:
        state = {name: torch.tensor(array) for name, array in reference.items()}
        self.model = _Output(build(state)).to(device).eval().requires_grad_(False)
        places = dict(self.model.named_parameters(remove_duplicate=False)) | dict(self.model.named_buffers())
        self.kinds = {name: (each.dtype, each.shape) for name, each in places.items()}
        told = told_names(self.model.named_modules())
        self.held = held_tensors({name: tuple(each.shape) for name, each in places.items()}, reference, told)
        self.held = {place: names for place, names in self.held.items() if all(name in reference for name in names)}
        first = {id(places[place]): place for place in reversed(self.held)}
        self.given = {place: names for place, names in self.held.items() if first[id(places[place])] == place}
        self.aliases, self.device = dict(aliases), device

    def require(self, names: list[str]) -> None:
        """Raises CalibrationError when a tensor is no parameter of the model."""
        found = {name for held in self.held.values() for name in held}
        for name in names:
            if name not in found:
                raise CalibrationError(f"{name} is not a parameter of the model, so that it cannot be tuned")

    def kl(self, weights: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Nats per token of one batch. *Shape* ids (windows, time).

        Of a large vocabulary the logits of a few tokens are held at a time; their gradients are made at once.
        """
        with torch.no_grad():
            expected = self.model(ids)
        everywhere = {**weights, **{alias: weights[name] for alias, name in self.aliases.items()}}
        state = {}
        for place, names in self.given.items():  # of places that are tied, one
            dtype, shape = self.kinds[place]
            parts = [everywhere[name].to(dtype) for name in names]
            state[place] = (
                parts[0] if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts]).view(shape)
            )
        n = ids.numel()
        if 4 * n * expected.n_pieces > WHOLE_BYTES:
            return self._kl_in_slices(expected, state, ids)
        found = functional_call(self.model, state, (ids,))
        return _sum_kl(expected, expected.hidden, found, found.hidden) / n

    def _kl_in_slices(self, expected: Split, state: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        learning, n = torch.is_grad_enabled(), ids.numel()
        leaves = {
            place: each.detach().requires_grad_(learning and each.requires_grad) for place, each in state.items()
        }
        found = functional_call(self.model, leaves, (ids,))
        before, after = (split.hidden.reshape(n, -1) for split in (expected, found))
        total, gradient = torch.zeros((), device=ids.device), torch.zeros_like(after)
        for part in slices(n, expected.n_pieces):
            given = after[part].detach().requires_grad_(learning)
            loss = _sum_kl(expected, before[part], found, given) / n
            total += loss.detach()
            if learning:
                loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
                assert given.grad is not None
                gradient[part] = given.grad
        if found.hidden.requires_grad:
            found.hidden.backward(gradient.view_as(found.hidden))
        result: Tensor = _Differentiated.apply(total, [leaf.grad for leaf in leaves.values()], *state.values())  # type: ignore[no-untyped-call]
        return result

    @torch.no_grad()
    def mean(self, weights: Mapping[str, Tensor], batches: list[Tensor]) -> float:
        """Nats per token of several batches."""
        total = sum(float(self.kl(weights, ids)) * ids.numel() for ids in batches)
        return total / sum(ids.numel() for ids in batches)
