"""The loss of a checkpoint under a guess at its model, on the first tokens of a text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from pgpack.loss.bpb import Build, next_token_logits
from pgpack.loss.evaluator import Tensors
from pgpack.text.data import Tokens

PROBE_LEN = 1024  # tokens
CLEAR = 0.02  # nats per token that tell one guess from another


@dataclass(frozen=True)
class Probe:
    """`weights` gives the tensors when a loss is first asked for. Shape: tokens (n,) uint16."""

    weights: Callable[[], Tensors]
    tokens: Tokens

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(array) for name, array in self.weights().items()}

    def nats(self, build: Build, seq_len: int) -> float:
        """Units: nats per token, infinite where the model gives no finite loss."""
        length = min(seq_len, PROBE_LEN, len(self.tokens) - 1)
        loss = self._loss(build, self.tokens[: length + 1], length)
        return loss if math.isfinite(loss) else math.inf

    def shorter_windows(self, build: Build, length: int) -> str:
        """Says so when windows shorter than `length`, which nothing in a state dict tells, lose clearly less."""
        n = min(2 * PROBE_LEN, len(self.tokens) - 1) // length * length
        if n == 0:
            return ""
        windows = [part for part in (length, length // 2, length // 4, length // 8) if part and n % part == 0]
        losses = {window: self._loss(build, self.tokens[: n + 1], window) for window in windows}
        best = min(losses, key=losses.__getitem__)
        if not losses[best] < losses[length] - CLEAR:
            return ""
        return f" (of {best} it loses less, {losses[best]:.2f} to {losses[length]:.2f} nats: trained so?)"

    def _loss(self, build: Build, tokens: Tokens, window: int) -> float:
        ids = torch.tensor(tokens.astype("int64"))
        with torch.no_grad():
            logits = next_token_logits(build(self.state), ids[:-1].view(-1, window), 1)
            return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:]))
