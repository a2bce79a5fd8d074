"""Quantizing in stages: after each, the weights that are still free are trained to make up for the errors so far.

    free fp32 weights --quantize a group, keep it--> --Adam on KL to the fp32 model--> next group ... --> records

The artifact has the layout and almost exactly the size that it would have anyway; only the symbols differ. Groups are
of neighbouring matrices in the order of the state dict, tensors that look tokens up last: they are the most precise
ones, and everything before them can still be mended through them. Tensors that no quantizer touches stay free to the
end.

*Source* fine-tuning during quantization: Tseng et al. 2024, QuIP# (arXiv:2402.04396, section 5); Egiazarian et al.
2024, AQLM (arXiv:2401.06118, section 3.4). We differ: one loss for all stages, the KL of the whole model, and
Hessians of the fp32 model throughout, unless drift is followed within each group.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.loss.bpb import Build
from pgpack.pack import Quantized, quantize
from pgpack.quantizers.cast import Cast
from pgpack.recipe.applied import Applied, apply
from pgpack.recipe.directives import Compensate
from pgpack.recipe.recipe import Recipe
from pgpack.tensors.record import Record

from .divergence import Batches, Divergence, warmed
from .drift import Drifting
from .fresh_text import BATCH_TOKENS
from .stages import refuse_global

Progress = Callable[[int, float], None]


def compensate(
    checkpoint: Checkpoint,
    recipe: Recipe,
    calibration: Calibration | None,
    build: Build,
    tokens: NDArray[Any],
    seq_len: int,
    *,
    batch_tokens: int = BATCH_TOKENS,
    seed: int = 0,
    device: str = "cpu",
    drifting: Drifting | None = None,
    progress: Progress = lambda step, kl: None,
    left_out: Callable[[], None] = lambda: None,
) -> Quantized:
    """`checkpoint` quantized by `recipe` in the stages of its @compensate.

    `build`: state dict -> module whose parameters have the state dict's names. `tokens`: calibration text, best none
    of which the Hessians have seen. `drifting`: each group is quantized in stages of its own (`pgpack.refine.drift`).
    Unless the KL falls on the batches kept back, it is left out, and `left_out` is told. `progress`
    is told each optimizer step and its KL in nats per token. Deterministic for one thread count.
    Raises RecipeError with @order or a choice among corrections, which look at all weights at once; CalibrationError
    when there are fewer tokens than two windows, or a tensor is no parameter of the model.
    """
    started = time.perf_counter()
    refuse_global(recipe, "@compensate")
    batches = Batches(tokens, seq_len, batch_tokens, device)
    applied = apply(recipe, checkpoint.stored_shapes)
    names, groups = list(checkpoint.stored_shapes), list(groups_of(applied))
    stages = _Stages(checkpoint, applied, calibration, device, drifting)

    def whole(records: Mapping[str, Record]) -> Quantized:
        ordered = tuple(records[name] for name in names)
        return Quantized(ordered, checkpoint.aliases, time.perf_counter() - started)

    if not recipe.compensate.count or len(groups) < 2:
        return whole(stages.quantized(checkpoint, names))
    divergence = Divergence(build, dict(checkpoint.items()), checkpoint.aliases, device)
    divergence.require([name for group in groups for name in group])
    shuffled, done = batches.shuffled(seed), 0
    for number, group in enumerate(groups[:-1], start=1):
        stages.settle(group)
        count = round(recipe.compensate.count * number / (len(groups) - 1)) - done
        for ids, free in stages.descent(shuffled, count, recipe.compensate):
            loss = divergence.kl(stages.weights, ids)
            loss.backward()  # type: ignore[no-untyped-call]
            free.step()
            progress(done, float(loss.detach()))
            done += 1
    stages.settle(names)
    plain = quantize(checkpoint, applied, calibration).records
    decoded = {record.name: torch.tensor(record.dequantize()).to(device) for record in plain}
    if divergence.mean(stages.weights, batches.checked) < divergence.mean(decoded, batches.checked):
        return whole(stages.records)
    left_out()
    return whole(stages.quantized(checkpoint, names))


def groups_of(applied: Applied) -> Iterator[list[str]]:
    """Names of what is quantized: neighbours with about as many weights each, then what looks tokens up."""
    lossy = [each for each in applied.tensors.values() if not isinstance(each.policy.quantizer, Cast)]
    last = [each.name for each in lossy if each.role in ("embedding", "head")]
    inner = sorted((each for each in lossy if each.name not in last), key=lambda each: _natural(each.name))
    share = sum(each.numel for each in inner) / max(1, applied.recipe.compensate.groups - 1)
    group: list[str] = []
    taken = 0
    for each in inner:
        if group and taken + each.numel / 2 > share:
            yield group
            group, taken = [], 0
        group.append(each.name)
        taken += each.numel
    yield from (each for each in (group, last) if each)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts blocks.10 after blocks.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


class _Stages:
    """What is settled and what is still free. `weights`: every stored tensor as the model sees it at present."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        applied: Applied,
        calibration: Calibration | None,
        device: str,
        drifting: Drifting | None,
    ) -> None:
        self.checkpoint, self.drifting = checkpoint, drifting
        self.applied, self.calibration, self.device = applied, calibration, device
        self.records: dict[str, Record] = {}
        self.weights = {name: torch.tensor(checkpoint.tensor(name)).to(device) for name in checkpoint.stored_shapes}

    def settle(self, group: Sequence[str]) -> None:
        """Quantize those of `group` that are free; the model sees what they decode to from now on."""
        free = [name for name in group if name not in self.records]
        values = {name: each.detach().cpu().numpy() for name, each in self.weights.items()}
        aliases = self.checkpoint.aliases
        now = dataclasses.replace(self.checkpoint, load=lambda name: values[aliases.get(name, name)])
        for name, record in self.quantized(now, free).items():
            self.records[name] = record
            self.weights[name] = torch.tensor(record.dequantize()).to(self.device)

    def quantized(self, now: Checkpoint, names: Sequence[str]) -> dict[str, Record]:
        """Those of `names`, with the values of `now`."""
        if self.drifting is None or self.calibration is None:
            records = quantize(now, self.applied, self.calibration, names=names).records
            return {record.name: record for record in records}
        return self.drifting.quantize(now, self.applied, self.calibration, names)

    def descent(
        self, batches: Iterator[Tensor], count: int, plan: Compensate
    ) -> Iterator[tuple[Tensor, torch.optim.Optimizer]]:
        """Batches, each with the optimizer to step once its loss is differentiated; the rate falls to zero."""
        free = [n for n, each in self.weights.items() if n not in self.records and each.is_floating_point()]
        groups = []
        for name in free:
            leaf = self.weights[name].detach().requires_grad_()
            self.weights[name] = leaf
            groups.append({"params": [leaf], "base": plan.lr * float(leaf.detach().square().mean().sqrt())})
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
        for _, ids in warmed(optimizer, count, batches):
            yield ids, optimizer
