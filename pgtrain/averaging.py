"""Exponential moving average of weights, accumulated in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """average <- d * average + (1 - d) * weights after each step.

    `decay` is the limit; step t uses d = min(decay, (1 + t) / (10 + t)), so that the random start is forgotten
    in short runs. decay 0 keeps the last weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = {
            name: parameter.detach().float().clone() for name, parameter in model.named_parameters()
        }

    def decay_at(self, step: int) -> float:
        """Decay used after step number `step` (from 0)."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update_(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step number `step`."""
        weight = 1.0 - self.decay_at(step)
        for name, parameter in model.named_parameters():
            self.tensors[name].lerp_(parameter.float(), weight)
