"""Averages of weights over a run, accumulated in float32: exponential (EMA) or over late snapshots (SWA).

Why float32: in bfloat16 an average of 0.9965 moves by less than the rounding of most weights; #212 of
openai/parameter-golf measured 2.62 bits per byte with SWA accumulated so (its finding 8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .train_config import TrainConfig


class WeightAverage:
    """average <- d * average + (1 - d) * weights after each step.

    `decay` is the limit; step t uses d = min(decay, (1 + t) / (10 + t)), so that the random start is forgotten
    in short runs. decay 0 keeps the last weights. Parameters that `keeps_last` names are not averaged: the gates of
    PRISM's adaptive repartition, as in #2090.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0  # weights taken in
        self.tensors: dict[str, Tensor] = {
            name: parameter.detach().float().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update_(self, model: nn.Module, step: int, lr_scale: float = 1.0) -> None:
        """Take in the weights after step number `step` (from 0)."""
        self.count += 1
        self._take_(model, 1.0 - min(self.decay, (1 + step) / (10 + step)))

    def _take_(self, model: nn.Module, weight: float) -> None:
        """average <- (1 - weight) average + weight * parameters."""
        named = {name: parameter.float() for name, parameter in model.named_parameters()}
        averaged = [name for name in named if not keeps_last(name)]
        torch._foreach_lerp_([self.tensors[name] for name in averaged], [named[name] for name in averaged], weight)
        for name in named.keys() - set(averaged):
            self.tensors[name].copy_(named[name])


class SnapshotAverage(WeightAverage):
    """Mean of the weights after every `every`-th step at which the rates are below `below` of full.

    Until there is such a snapshot, the last weights. Source: Izmailov et al. 2018, arXiv:1803.05407; #212 and #433 of
    openai/parameter-golf, which snapshot through the warmdown.
    """

    def __init__(self, model: nn.Module, every: int, below: float) -> None:
        super().__init__(model, 0.0)
        self.every, self.below = every, below

    @torch.no_grad()
    def update_(self, model: nn.Module, step: int, lr_scale: float = 1.0) -> None:
        """Take in the weights after step number `step`, made with `lr_scale` of the full rates, if they count."""
        due = lr_scale < self.below and (step + 1) % self.every == 0
        self.count += due
        if due or self.count == 0:
            self._take_(model, 1.0 / max(self.count, 1))


def keeps_last(name: str) -> bool:
    """Whether a parameter's last value goes into the checkpoint, whatever the average."""
    return ".perm_gate." in name


def make_average(model: nn.Module, config: TrainConfig) -> WeightAverage:
    """The average that the settings ask for."""
    if config.swa_every:
        return SnapshotAverage(model, config.swa_every, config.swa_below)
    return WeightAverage(model, config.ema_decay)
