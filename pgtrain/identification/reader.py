"""A checkpoint read under guesses at its model: losses token by token, as a search asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pgpack.loss.bpb import Build, next_token_logits
from pgpack.models.probe import Probe
from pgtrain.model.flop_count import weight_uses
from pgtrain.model.model_config import GPTConfig

from .stationary import BATCHES, Gradients
from .untouched import TABLES, against
from .yardstick import bigram_nats

Losses = NDArray[np.float64]
WORK = 4e11  # multiplications that one guess may cost: seconds on a processor
TEXT = 65_536  # tokens of a text that tell a model, and its bigram
MOST, LEAST = 32_768, 2048  # tokens that one guess is judged on
BATCH = 1024  # tokens of a batch of a gradient
SEEN = 1 << 18  # values of a gradient that are kept


@dataclass(frozen=True)
class Reader:
    """`build` makes a model of a guess from the tensors of the probe."""

    probe: Probe
    build: Callable[[GPTConfig], Build]

    @property
    def n_tokens(self) -> int:
        return len(self.probe.tokens) - 1

    def enough(self, config: GPTConfig, window: int) -> int:
        """How many tokens such a guess is judged on, whole windows."""
        affordable = int(min(max(WORK / weight_uses(config), LEAST), MOST))
        return max(min(self.n_tokens, affordable) // window, 1) * window

    def nats(self, config: GPTConfig, window: int, first: int, last: int) -> Losses:
        """Of the tokens `first` to `last` of the windows in their spread order."""
        starts = self.probe.spread(window)[first // window : -(-last // window)]
        found = self.probe.token_nats(self.build(config), window, starts)
        begin = first // window * window
        return found[first - begin : last - begin]

    def nats_through(self, config: GPTConfig, window: int, n_tokens: int) -> Losses:
        """Of the first tokens of the text, read in windows of this length."""
        starts = np.arange(n_tokens // window) * window
        return self.probe.token_nats(self.build(config), window, starts)

    def nats_in_context(self, config: GPTConfig, context: int, n_tokens: int) -> tuple[Losses, Losses]:
        """Of the same tokens with `context` tokens before them and up to twice as many, and with half of that.

        `config` has windows of twice the context."""
        build, half = self.build(config), context // 2
        starts = np.arange(min(n_tokens, self.n_tokens) // (2 * context)) * 2 * context
        more = self.probe.token_nats(build, 2 * context, starts).reshape(-1, 2, context)[:, 1]
        parts = (self.probe.token_nats(build, context, starts + shift) for shift in (half, context))
        less = np.concatenate([part.reshape(-1, 2, half)[:, 1] for part in parts], axis=1)
        return more.ravel(), less.ravel()

    def nats_further(self, config: GPTConfig, first: int, last: int, n_tokens: int) -> tuple[Losses, Losses]:
        """Of the same tokens, with `first` tokens before them and up to `last`, and with `last` - `first` fewer.

        `config` has windows of `last`."""
        build, step = self.build(config), last - first
        starts = np.arange(0, min(n_tokens, self.n_tokens) - last + 1, 2 * step)
        more = self.probe.token_nats(build, last, starts).reshape(-1, last)[:, first:]
        less = self.probe.token_nats(build, first, starts + step).reshape(-1, first)[:, first - step :]
        return more.ravel(), less.ravel()

    def gradients(self, config: GPTConfig, window: int, first: int, last: int) -> Gradients:
        """Of the batches `first` to `last` of BATCHES, each tensor's; of a large model every so many values."""
        n_tokens = min(self.enough(config, window), BATCHES * BATCH)
        starts = self.probe.spread(window)[: max(n_tokens // window, BATCHES)]
        return self._gradients(config, window, np.array_split(starts, BATCHES)[first:last])

    def gradients_through(self, config: GPTConfig, window: int) -> Gradients:
        """Of BATCHES batches of the same tokens, whatever the length of windows."""
        apart, count = self.n_tokens // BATCHES, max(BATCH // window, 1)
        places = np.arange(min(count, max(apart // window, 1))) * window
        return self._gradients(config, window, [at * apart + places for at in range(BATCHES)])

    def _gradients(self, config: GPTConfig, window: int, batches: Sequence[NDArray[np.int64]]) -> Gradients:
        model = self.build(config)(self.probe.state).requires_grad_(True)
        parameters = dict(model.named_parameters())
        step = -(-sum(each.numel() for each in parameters.values()) // SEEN)
        rows: dict[str, list[torch.Tensor]] = {name: [] for name in parameters}
        for starts in batches:
            loss = self._loss(model, window, starts)
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(rows, found, strict=True):
                if gradient is not None:
                    rows[name].append(gradient.flatten()[::step].clone())
        model.requires_grad_(False)
        return {name: torch.stack(own).float().numpy() for name, own in rows.items() if own}

    def against(self, config: GPTConfig, window: int) -> int:
        """How many values of the tables speak against a guess, by what a batch of it reads."""
        values = {name: table.float().numpy() for name, table in self._tables(self.probe.state).items()}
        if not values:
            return 0
        model = self.build(config)(self.probe.state)
        tables = self._tables(dict(model.named_parameters()))
        for table in tables.values():
            table.requires_grad_(True)
        loss = self._loss(model, window, self.probe.spread(window)[: max(BATCH // window, 1)])
        found = torch.autograd.grad(loss, list(tables.values()), allow_unused=True) if tables else ()
        model.requires_grad_(False)
        named = zip(tables, found, strict=True)
        return against(values, {name: (each != 0).numpy() for name, each in named if each is not None})

    @staticmethod
    def _tables(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensors[name] for name in TABLES if name in tensors}

    def _loss(self, model: torch.nn.Module, window: int, starts: NDArray[np.int64]) -> torch.Tensor:
        """The mean of the windows that begin there. Shape: ()."""
        index = np.minimum(starts[:, None] + np.arange(window + 1), self.n_tokens)
        ids = torch.tensor(self.probe.tokens[index].astype(np.int64))
        logits = next_token_logits(model, ids[:, :-1], 1)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    @cached_property
    def bigram(self) -> float:
        """Nats per token of the text under its own pairs."""
        tokens = self.probe.tokens[:TEXT]
        return bigram_nats(tokens, int(tokens.max(initial=0)) + 1)
