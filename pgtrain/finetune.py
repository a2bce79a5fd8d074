"""A finished model trained on for the packer: as near to itself as bytes allow.

    weights --> model on calibration text --> KL(fp32 model || this) --Adam--> weights
    weights --> rate of the engine's coder --> Newton's step down what is paid for it, beside Adam --> weights

Owns the loop. The model may be anything that `pgpack.models` builds, a Hugging Face folder too; evaluated text is the
caller's to keep out. Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import DataError
from pgpack.loss.bpb import Build
from pgpack.refine.divergence import Batches, Divergence, warmed
from pgpack.refine.fresh_text import BATCH_TOKENS
from pgpack.refine.target import PackerTarget

from .training.for_packer import ForPacker


@dataclass(frozen=True)
class FinetuneConfig:
    """`lr`: the largest change of a weight in a step, in units of its tensor's root mean square; `pressure` as in
    `pgtrain.training.for_packer`; `batch_tokens` of each of `steps`."""

    steps: int = 200
    lr: float = 0.003
    pressure: float = 1.0
    batch_tokens: int = BATCH_TOKENS
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_tokens"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name in ("lr", "pressure"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}, must not be negative")


@dataclass(frozen=True, eq=False)
class Finetuned:
    """`tensors`: every stored tensor, by name; `recipe`: what they were trained for; `n_bytes`: of the file that it
    is expected to give; `kl`: nats per token on batches kept back, before packing."""

    tensors: Mapping[str, NDArray[Any]]
    recipe: str
    n_bytes: float
    kl: float


def finetune(
    checkpoint: Checkpoint,
    target: str,
    build: Build,
    observe: Callable[[Mapping[str, NDArray[np.float32]]], Calibration],
    tokens: NDArray[Any],
    seq_len: int,
    config: FinetuneConfig,
    *,
    device: str = "cpu",
    progress: Callable[[int, float], None] = lambda step, kl: None,
) -> Finetuned:
    """`checkpoint` trained for `target`, a recipe or a budget.

    `observe`: weights -> calibration; `tokens`: calibration text; `progress` is told each step and its KL.
    Deterministic for one thread count. Raises: RecipeError for a target that is none; CalibrationError where a matrix
    of it is no product of the model, or there are fewer tokens than two windows.
    """
    batches = Batches(tokens, seq_len, config.batch_tokens, device)
    divergence = Divergence(build, dict(checkpoint.items()), checkpoint.aliases, device)
    weights = {name: torch.tensor(checkpoint.tensor(name)).to(device) for name in checkpoint.stored_shapes}
    late = ForPacker(
        PackerTarget.of(target, checkpoint.stored_shapes), weights, observe, config.pressure, config.steps
    )
    free = {name: each.requires_grad_() for name, each in weights.items() if each.is_floating_point()}
    groups = [
        {"params": [each], "base": config.lr * float(each.detach().square().mean().sqrt())} for each in free.values()
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
    for step, ids in warmed(optimizer, config.steps, batches.shuffled(config.seed)):
        late.prepare_(weights, weights)
        loss = divergence.kl(weights, ids)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        late.move_(weights, optimizer.param_groups[0]["lr"] / (optimizer.param_groups[0]["base"] or 1.0))
        progress(step, float(loss.detach()))
    kl = divergence.mean(weights, batches.checked)
    tensors = {name: each.detach().cpu().numpy() for name, each in weights.items()}
    return Finetuned(tensors, late.recipe, late.n_bytes, kl)
