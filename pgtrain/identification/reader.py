"""A checkpoint read under guesses at its model: losses token by token, as a search asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pgpack.loss.bpb import Build, next_token_logits
from pgpack.models.probe import Probe
from pgtrain.model.flop_count import weight_uses
from pgtrain.model.model_config import GPTConfig

from .yardstick import bigram_nats

Losses = NDArray[np.float64]
WORK = 4e11  # multiplications that one guess may cost: seconds on a processor
MOST, LEAST = 65_536, 2048  # tokens that one guess is judged on
BATCHES, BATCH = 8, 1024  # of a gradient, and tokens of each
SEEN = 1 << 16  # values of a tensor whose gradient is kept


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

    def grams(self, config: GPTConfig, window: int) -> dict[str, Losses]:
        """Products of the gradients of each tensor in each two of BATCHES batches; of a large tensor every so many
        values. Shape: (BATCHES, BATCHES)."""
        n_tokens = min(self.enough(config, window) // 2, BATCHES * BATCH)
        starts = self.probe.spread(window)[: max(n_tokens // window, BATCHES)]
        model = self.build(config)(self.probe.state).requires_grad_(True)
        found: dict[str, list[torch.Tensor]] = {name: [] for name, _ in model.named_parameters()}
        for part in np.array_split(starts, BATCHES):
            index = part[:, None] + np.arange(window + 1)
            ids = torch.tensor(self.probe.tokens[index].astype(np.int64))
            logits = next_token_logits(model, ids[:, :-1], 1)
            model.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            torch.autograd.backward(loss)
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    step = -(-parameter.numel() // SEEN)
                    found[name].append(parameter.grad.flatten()[::step].clone())
        model.requires_grad_(False)
        stacked = {name: torch.stack(rows).double() for name, rows in found.items() if len(rows) == BATCHES}
        return {name: (rows @ rows.T).numpy() for name, rows in stacked.items()}

    @cached_property
    def bigram(self) -> float:
        """Nats per token of the text under its own pairs."""
        tokens = self.probe.tokens[:MOST]
        return bigram_nats(tokens, int(tokens.max(initial=0)) + 1)
