"""A checkpoint read under guesses at its model: losses token by token, as a search asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        parameters = list(model.parameters())
        step = -(-sum(each.numel() for each in parameters) // SEEN)
        rows: list[list[torch.Tensor]] = [[] for _ in parameters]
        for starts in batches:
            index = np.minimum(starts[:, None] + np.arange(window + 1), self.n_tokens)
            ids = torch.tensor(self.probe.tokens[index].astype(np.int64))
            logits = next_token_logits(model, ids[:, :-1], 1)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            for own, gradient in zip(rows, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if gradient is not None:
                    own.append(gradient.flatten()[::step].clone())
        model.requires_grad_(False)
        return [torch.stack(own).float().numpy() for own in rows if own]

    @cached_property
    def bigram(self) -> float:
        """Nats per token of the text under its own pairs."""
        tokens = self.probe.tokens[:TEXT]
        return bigram_nats(tokens, int(tokens.max(initial=0)) + 1)
