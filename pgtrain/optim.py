"""Optimizers of a run: Muon for the matrices of the blocks, AdamW for embedding, head, gains and scales.

Owns which parameter belongs to which group. Source: groups and rates of openai/parameter-golf train_gpt.py;
Muon: Jordan 2024, https://kellerjordan.github.io/posts/muon/ (quintic Newton-Schulz).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pgtrain.gpt import GPT
from pgtrain.tensor_table import parameter_group
from pgtrain.train_config import TrainConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, iterations: int) -> Tensor:
    """Nearest semi-orthogonal matrix, roughly: singular values end between 0.7 and 1.2. Shape kept, float32."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Muon):
    """torch's Muon; on a CPU the orthogonalization runs in float32 instead of bfloat16.

    CPUs without bfloat16 units emulate those products: 28 ms against 0.5 ms for 256 x 256 (AMD EPYC with AVX2),
    which is more than the rest of the step. State and hyperparameters are torch's, so states are exchangeable.
    The rate is scaled by sqrt(max(1, rows / columns)), torch's "original" and the challenge's convention.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        if self.param_groups[0]["params"][0].device.type != "cpu":
            loss: float | None = super().step(closure)  # type: ignore[no-untyped-call]
            return loss
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update_on_cpu_(parameter, parameter.grad, group)
        return loss

    def _update_on_cpu_(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        momentum, state = group["momentum"], self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
        rows, columns = parameter.shape
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * max(1, rows / columns) ** 0.5
        parameter.add_(orthogonalize(direction, group["ns_steps"]), alpha=-rate)


def make_optimizers(model: GPT, config: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    """{"muon": ..., "adamw": ...}; every parameter is in exactly one group, whose full rate is `base_lr`."""
    parts: dict[str, list[nn.Parameter]] = {"matrix": [], "embedding": [], "head": [], "scalar": []}
    for name, parameter in model.named_parameters():
        parts[parameter_group(name)].append(parameter)
    muon = Muon(
        parts["matrix"],
        lr=config.matrix_lr,
        weight_decay=config.weight_decay,
        momentum=config.muon_momentum,
        ns_steps=config.muon_iterations,
        adjust_lr_fn="original",
    )
    rates = {"embedding": config.embed_lr, "head": config.head_lr, "scalar": config.scalar_lr}
    adamw = torch.optim.AdamW(
        [{"params": parts[part], "lr": lr} for part, lr in rates.items() if parts[part]],
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_eps,
        weight_decay=0.0,
    )
    optimizers: dict[str, torch.optim.Optimizer] = {"muon": muon, "adamw": adamw}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def set_rates_(optimizers: dict[str, torch.optim.Optimizer], scale: float, momentum: float) -> None:
    """Set every group's rate to scale * base_lr, and Muon's momentum."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale
    for group in optimizers["muon"].param_groups:
        group["momentum"] = momentum
