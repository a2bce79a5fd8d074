"""Matrices quantized one stage after another, each towards what makes up for the stages before it.

    x: inputs in the fp32 model    z: where all earlier stages are quantized    r, s: residual streams of both
    H = E z z^T     C = E x z^T     D = E (r - s) z^T
    T = W + (share W (C - H) + residual D) (H + damp mean(diag H) I)^-1          quantized under H

T x share 1 minimizes |W x - T z|; with residual 1, for a matrix that writes to the residual stream, what is minimized
is the error of the stream after it, |r + W x - s - T z|. Half the way is better than all of it: T is fitted to the
calibration text. What no stage has (tables, norms, experts, shared matrices) is quantized first, as ever.

*Source* targets: GPTAQ (arXiv:2504.02692), Qronos (arXiv:2505.11695); residual stream: WaterSIC (arXiv:2603.04956).
We differ: half the way, and a first column that is treated as all others.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.checkpoint.parameters import held_tensors, told_names
from pgpack.errors import CalibrationError
from pgpack.loss.bpb import Build
from pgpack.pack import Quantized, quantize
from pgpack.recipe.applied import Applied, apply
from pgpack.recipe.directives import Drift
from pgpack.recipe.recipe import Recipe
from pgpack.tables import counted
from pgpack.tensors.record import Record

from .stages import Stage, Staged, refuse_global

BATCH_TOKENS = 2048
Array = NDArray[np.float32]


def follow_drift(
    checkpoint: Checkpoint,
    recipe: Recipe,
    calibration: Calibration,
    build: Build,
    tokens: NDArray[Any],
    seq_len: int,
    *,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda n: None,
) -> Quantized:
    """`checkpoint` quantized by `recipe` in the stages of its @drift.

    `build`: state dict -> module; `tokens`: those that the Hessians come from. `progress` is told of tensors done.
    A model whose layers cannot be run one by one is quantized as without @drift. Deterministic for one thread count.
    Raises CalibrationError when there are fewer tokens than one window; RecipeError with @order or a choice among
    corrections, which look at all weights at once.
    """
    started = time.perf_counter()
    refuse_global(recipe, "@drift")
    n_windows = len(tokens) // seq_len
    if n_windows < 1:
        raise CalibrationError(f"{counted(len(tokens), 'calibration token')} are fewer than one window of {seq_len}")
    windows = torch.from_numpy(np.asarray(tokens[: n_windows * seq_len]).astype(np.int64)).view(n_windows, seq_len)
    batches = [ids.to(device) for ids in torch.split(windows, max(1, BATCH_TOKENS // seq_len))]
    applied = apply(recipe, checkpoint.stored_shapes)
    exact, moving = (_Copy.of(checkpoint, build, batches, device) for _ in range(2))
    stages = [stage for stage in moving.staged.stages() if moving.names(stage, applied)]
    exact.staged.stages()
    later = {name for stage in stages for name in moving.names(stage, applied)}
    first = [name for name in checkpoint.stored_shapes if name not in later]
    records = {each.name: each for each in quantize(checkpoint, applied, calibration, names=first).records}
    moving.take(records, checkpoint.aliases)
    progress(len(first))
    for stage in stages:
        names = moving.names(stage, applied)
        now, statistics = _aimed(checkpoint, calibration, names, _Moments.seen(exact, moving, stage), recipe.drift)
        found = {each.name: each for each in quantize(now, applied, statistics, names=names).records}
        moving.take(found, checkpoint.aliases)
        records |= found
        progress(len(names))
    ordered = tuple(records[name] for name in checkpoint.stored_shapes)
    return Quantized(ordered, checkpoint.aliases, time.perf_counter() - started)


@dataclass(frozen=True, eq=False)
class _Copy:
    """A model of its own, run in stages. `held`: parameter -> the stored tensors in it."""

    model: nn.Module
    staged: Staged
    held: Mapping[str, tuple[str, ...]]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: Checkpoint, build: Build, batches: Sequence[Tensor], device: str) -> _Copy:
        state = {name: torch.tensor(array, device=device) for name, array in checkpoint.items()}
        model = build(state).to(device).eval().requires_grad_(False)
        parameters = dict(model.named_parameters())
        shapes = {name: tuple(each.shape) for name, each in parameters.items()}
        held = held_tensors(shapes, checkpoint.shapes, told_names(model.named_modules()))
        return cls(model, Staged(model, batches), held, parameters)

    def names(self, stage: Stage, applied: Applied) -> list[str]:
        """The stored tensors of a stage that are quantized with a Hessian."""
        found = [name for parameter in stage.parameters for name in self.held[parameter]]
        return [name for name in found if name in applied.tensors and applied.tensors[name].policy.needs_hessian]

    def take(self, records: Mapping[str, Record], aliases: Mapping[str, str]) -> None:
        """The model goes on with what these records decode to."""
        for parameter, names in self.held.items():
            stored = [aliases.get(name, name) for name in names]
            place, at = self.parameters[parameter].view(-1), 0
            for name in stored:
                n = place.numel() // len(stored)
                if name in records:
                    values = torch.from_numpy(np.ascontiguousarray(records[name].dequantize())).reshape(-1)
                    place[at : at + n].copy_(values)
                at += n


@dataclass(frozen=True, eq=False)
class _Moments:
    """Means over tokens. Shape: h, c (in, in), d (out, in) or None where the stage does not write to the stream."""

    h: Array
    c: Array
    d: Array | None

    @classmethod
    def seen(cls, exact: _Copy, moving: _Copy, stage: Stage) -> _Moments:
        h = c = d = None
        n = 0
        for (x, r), (z, s) in zip(exact.staged.inputs(stage), moving.staged.inputs(stage), strict=True):
            n += len(z)
            h = z.T @ z if h is None else h.addmm_(z.T, z)
            c = x.T @ z if c is None else c.addmm_(x.T, z)
            if r is not None and s is not None:
                d = (r - s).T @ z if d is None else d.addmm_((r - s).T, z)
        assert h is not None
        assert c is not None
        h = (h + h.T) / (2 * n)
        return cls(h.cpu().numpy(), (c / n).cpu().numpy(), None if d is None else (d / n).cpu().numpy())

    def target(self, weight: Array, plan: Drift, d: Array | None) -> Array:
        """Shape: (out, in). The weight itself where the inputs are all zero."""
        h, c = self.h.astype(np.float64), self.c.astype(np.float64)
        mean = float(np.mean(np.diag(h)))
        if not mean > 0:
            return weight
        wanted = plan.share * (weight.astype(np.float64) @ (c - h))
        if d is not None:
            wanted += plan.residual * d
        change = np.linalg.solve(h + plan.damp * mean * np.eye(len(h)), wanted.T).T
        return np.asarray(weight + change, np.float32)


def _aimed(
    checkpoint: Checkpoint, calibration: Calibration, names: Sequence[str], moments: _Moments, plan: Drift
) -> tuple[Checkpoint, Calibration]:
    """Targets in place of the weights of a stage, and its Hessian as it is now."""
    targets: dict[str, Array] = {}
    for name in names:
        weight = checkpoint.tensor(name)
        flat = weight.reshape(-1, weight.shape[-1])
        d = moments.d if moments.d is not None and len(moments.d) == len(flat) else None
        targets[name] = moments.target(flat, plan, d).reshape(weight.shape)
    hessians = {f"{name}.hessian" for name in names}
    now = dataclasses.replace(
        checkpoint, load=lambda name: targets[name] if name in targets else checkpoint.load(name)
    )
    statistics = dataclasses.replace(
        calibration, load=lambda key: moments.h if key in hessians else calibration.load(key)
    )
    return now, statistics
