"""Optimizers of a run: Muon for the matrices of the blocks, AdamW for embedding, head, gains and scales.

Source: groups and rates of openai/parameter-golf train_gpt.py; Muon: Jordan 2024,
https://kellerjordan.github.io/posts/muon/ (quintic Newton-Schulz); Polar Express: Amsel et al. 2025,
arXiv:2505.16932; rows of unit length: MuonEq-R, as in openai/parameter-golf PR #1394.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pgpack.errors import DataError
from pgtrain.model.gpt import GPT
from pgtrain.model.tensor_table import parameter_group

from .train_config import TrainConfig

Polynomial = tuple[float, float, float]  # a x + b x^3 + c x^5
NEWTON_SCHULZ: Polynomial = (3.4445, -4.7750, 2.0315)
# The optimal polynomial of each iteration for singular values in [1e-3, 1]; the last one repeats. arXiv:2505.16932,
# Algorithm 1, where all but the last are applied to x / 1.01 so that rounding pushes no value out of the interval.
POLAR_EXPRESS: tuple[Polynomial, ...] = (
    (8.205160414005569, -22.901934987056034, 16.460724910180303),
    (4.0669156198795875, -2.861284534588475, 0.5183804464778605),
    (3.9134926112054607, -2.824251876723087, 0.5248485625148532),
    (3.3060139701337725, -2.430227567449687, 0.4869515205509481),
    (2.304016813944474, -1.6427206546268969, 0.4009100949022211),
    (1.8771914635816975, -1.2356588245606832, 0.3590046107458665),
    (1.8564430512944288, -1.2132457535214525, 0.3568004238203446),
    (1.875, -1.25, 0.375),
)
POLAR_SAFETY = 1.01


def polynomials(orthogonalizer: str, iterations: int) -> list[Polynomial]:
    """The polynomials that `iterations` steps of newton_schulz or polar_express apply."""
    if orthogonalizer == "newton_schulz":
        return [NEWTON_SCHULZ] * iterations
    *growing, last = POLAR_EXPRESS
    safe = [(a / POLAR_SAFETY, b / POLAR_SAFETY**3, c / POLAR_SAFETY**5) for a, b, c in growing]
    return [*safe, *[last] * iterations][:iterations]


def orthogonalize(matrix: Tensor, iterations: int, orthogonalizer: str = "newton_schulz") -> Tensor:
    """Nearest semi-orthogonal matrix, roughly: singular values end between 0.7 and 1.2. Shape and dtype kept."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for a, b, c in polynomials(orthogonalizer, iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Muon):
    """torch's Muon; on a CPU the orthogonalization runs in float32 instead of bfloat16.

    CPUs without bfloat16 units emulate those products: 28 ms against 0.5 ms for 256 x 256 (AMD EPYC with AVX2),
    which is more than the rest of the step. State and hyperparameters are torch's, so states are exchangeable.
    The rate is scaled by sqrt(max(1, rows / columns)), torch's "original" and the challenge's convention.
    `row_norm` gives every row of the direction unit length before it is orthogonalized.
    """

    def __init__(
        self, parameters: list[nn.Parameter], *, orthogonalizer: str = "newton_schulz", row_norm: bool = False,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(parameters, **options)
        self.orthogonalizer, self.row_norm = orthogonalizer, row_norm

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        on_cpu = self.param_groups[0]["params"][0].device.type == "cpu"
        if not on_cpu and self.orthogonalizer == "newton_schulz" and not self.row_norm:
            loss: float | None = super().step(closure)  # type: ignore[no-untyped-call]
            return loss
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update_(parameter, parameter.grad, group)
        return loss

    def _update_(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        momentum, state = group["momentum"], self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
        rows, columns = parameter.shape
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * max(1, rows / columns) ** 0.5
        if self.row_norm:
            direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-7)
        if parameter.device.type != "cpu":
            direction = direction.bfloat16()
        update = orthogonalize(direction, group["ns_steps"], self.orthogonalizer)
        parameter.add_(update.to(parameter.dtype), alpha=-rate)


def make_optimizers(model: GPT, config: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    """{"muon": ..., "adamw": ...}; every parameter is in exactly one group, whose full rate is `base_lr`.

    What `config.frozen` names is in none and asks for no gradient. Raises: DataError when a glob names nothing.
    """
    parts: dict[str, list[nn.Parameter]] = {"matrix": [], "embedding": [], "head": [], "scalar": []}
    frozen = frozen_names(config, [name for name, _ in model.named_parameters()])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
        if name not in frozen:
            parts[parameter_group(name)].append(parameter)
    muon = Muon(
        parts["matrix"],
        lr=config.matrix_lr,
        weight_decay=config.weight_decay,
        momentum=config.muon_momentum,
        ns_steps=config.muon_iterations,
        adjust_lr_fn="original",
        orthogonalizer=config.muon_orthogonalizer,
        row_norm=config.muon_row_norm,
    )
    rates = {"embedding": config.embed_lr, "head": config.head_lr, "scalar": config.scalar_lr}
    decays = {"embedding": config.embed_weight_decay, "head": config.embed_weight_decay}
    adamw = torch.optim.AdamW(
        [
            {"params": parts[part], "lr": lr, "weight_decay": decays.get(part, config.scalar_weight_decay)}
            for part, lr in rates.items()
            if parts[part]
        ],
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_eps,
        fused=True,  # one kernel: 0.5 ms a step against 4.3 for the 49 small tensors of lanes-tiny on one core
    )
    optimizers: dict[str, torch.optim.Optimizer] = {"muon": muon, "adamw": adamw}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def frozen_names(config: TrainConfig, names: Sequence[str]) -> set[str]:
    """The tensors that a run leaves as they were drawn. Raises: DataError for a glob that matches none of `names`."""
    found: set[str] = set()
    for glob in filter(None, config.frozen.split(",")):
        held = fnmatch.filter(names, glob)
        if not held:
            raise DataError(f"frozen: {glob} is no tensor of this model; `pgpack inspect` shows the names")
        found |= set(held)
    return found


def set_rates_(optimizers: dict[str, torch.optim.Optimizer], scale: float, momentum: float) -> None:
    """Set every group's rate to scale * base_lr, and Muon's momentum."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale
    for group in optimizers["muon"].param_groups:
        group["momentum"] = momentum
