"""The loss of a checkpoint under a guess at its model, token by token, on windows of one text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pgpack.loss.bpb import Build, next_token_logits
from pgpack.loss.evaluator import Tensors
from pgpack.text.data import Tokens

PROBE_LEN = 1024  # tokens
CLEAR = 0.02  # nats per token that tell one guess from another
AT_ONCE = 4096  # tokens of one forward pass
GOLDEN = 0.6180339887498949  # steps of this part of a text spread windows over it, however many are read


@dataclass(frozen=True)
class Probe:
    """`weights` gives the tensors when a loss is first asked for. Shape: tokens (n,) uint16."""

    weights: Callable[[], Tensors]
    tokens: Tokens

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(array) for name, array in self.weights().items()}

    def spread(self, window: int) -> NDArray[np.int64]:
        """First tokens of all windows of a length, in an order of which every beginning is spread over the text."""
        count = (len(self.tokens) - 1) // window
        places = np.argsort((np.arange(count) * GOLDEN) % 1.0, kind="stable")
        order: NDArray[np.int64] = np.argsort(places, kind="stable") * window
        return order

    def token_nats(self, build: Build, window: int, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Loss of every target of the windows that begin at `starts`, one window after another."""
        model = build(self.state)
        found = []
        per_pass = max(1, AT_ONCE // window)
        for at in range(0, len(starts), per_pass):
            index = starts[at : at + per_pass, None] + np.arange(window + 1)
            ids = torch.tensor(self.tokens[index].astype(np.int64))
            with torch.no_grad():
                logits = next_token_logits(model, ids[:, :-1], 1)
                nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            found.append(nats.numpy().astype(np.float64))
        return np.concatenate(found) if found else np.empty(0)

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
            loss = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:]))
        return loss if math.isfinite(loss) else math.inf
