"""Matrices quantized one stage after another, each towards what makes up for the stages before it.

    x: inputs in the fp32 model    z: where all earlier stages are quantized    r, s: residual streams of both
    t = share W (x - z) + residual (r - s)
    B = E t z^T (E z z^T + damp I)^-1      W + step B, quantized under E z z^T

With both shares 1 and no damp B minimizes the error of what a matrix gives, and of the stream after it where it
writes to the residual stream. `step` is the part of B that is no chance: n tokens explain about p / n of any t, p the
effective number of inputs (trace of the ridge regression's hat matrix), so that what is left of t times p / n is
taken off what B seems to gain. At fine steps t is mostly noise, and all of B is worse than nothing. What no stage has
(tables, norms, experts, shared matrices) is quantized first, as ever.

*Source* targets: GPTAQ (arXiv:2504.02692), Qronos (arXiv:2505.11695); residual stream: WaterSIC (arXiv:2603.04956).
We differ: the step, and a first column that is treated as all others.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from pgpack.tables import counted_are
from pgpack.tensors.record import Record

from .stages import Stage, Staged, refuse_global

BATCH_TOKENS = 2048
Array = NDArray[np.float32]
Pair = tuple[Tensor, Tensor, Tensor | None]  # x, z and r - s of a batch. Shape: (tokens, in) twice, (tokens, out)
Pairs = Iterable[Pair]


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
    drifting = Drifting.over(tokens, seq_len, build, device, progress)
    applied = apply(recipe, checkpoint.stored_shapes)
    records = drifting.quantize(checkpoint, applied, calibration, list(checkpoint.stored_shapes))
    ordered = tuple(records[name] for name in checkpoint.stored_shapes)
    return Quantized(ordered, checkpoint.aliases, time.perf_counter() - started)


@dataclass(frozen=True, eq=False)
class Drifting:
    """Text and model that drift is seen in. `batches`: of windows, (windows, time) int64 each; `build`, `progress`:
    as above."""

    batches: Sequence[Tensor]
    build: Build
    device: str
    progress: Callable[[int], None]

    @classmethod
    def over(
        cls,
        tokens: NDArray[Any],
        seq_len: int,
        build: Build,
        device: str = "cpu",
        progress: Callable[[int], None] = lambda n: None,
    ) -> Drifting:
        """Raises CalibrationError when there are fewer tokens than one window."""
        n_windows = len(tokens) // seq_len
        if n_windows < 1:
            raise CalibrationError(
                f"{counted_are(len(tokens), 'calibration token')} fewer than one window of {seq_len}"
            )
        windows = torch.from_numpy(np.asarray(tokens[: n_windows * seq_len]).astype(np.int64)).view(
            n_windows, seq_len
        )
        batches = [ids.to(device) for ids in torch.split(windows, max(1, BATCH_TOKENS // seq_len))]
        return cls(batches, build, device, progress)

    def quantize(
        self, checkpoint: Checkpoint, applied: Applied, calibration: Calibration, names: Sequence[str]
    ) -> dict[str, Record]:
        """Those of `names`, in their stages; the others stay as `checkpoint` has them."""
        exact, moving = (_Copy.of(checkpoint, self.build, self.batches, self.device) for _ in range(2))
        staged = {stage: [n for n in moving.names(stage, applied) if n in names] for stage in moving.staged.stages()}
        exact.staged.stages()
        later = {name for together in staged.values() for name in together}
        first = [name for name in names if name not in later]
        records = {each.name: each for each in quantize(checkpoint, applied, calibration, names=first).records}
        moving.take(records, checkpoint.aliases)
        self.progress(len(first))
        for stage, together in staged.items():
            if not together:
                continue
            found = self.quantize_stage(checkpoint, applied, calibration, together, _pairs(exact, moving, stage))
            moving.take(found, checkpoint.aliases)
            records |= found
            self.progress(len(together))
        return records

    def quantize_stage(
        self, checkpoint: Checkpoint, applied: Applied, calibration: Calibration, names: Sequence[str], pairs: Pairs
    ) -> dict[str, Record]:
        """Those of `names`, which are one stage."""
        moments = Moments.of(pairs)
        targets = {name: moments.target_of(checkpoint, name, applied.recipe.drift) for name in names}
        return quantize_towards(targets, moments.h, checkpoint, applied, calibration)


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
class Moments:
    """Means over `n` tokens, u = x - z. Shape: h = E z z^T, c = E u z^T, q = E u u^T (in, in); of a matrix that
    writes to the residual stream, w = r - s, d = E w z^T, e = E w u^T (out, in) and lack = E |w|^2."""

    n: int
    h: Array
    c: Array
    q: Array
    d: Array | None = None
    e: Array | None = None
    lack: float = 0.0

    @classmethod
    def of(cls, pairs: Pairs) -> Moments:
        """Of every batch."""
        n, lack, sums = 0, 0.0, dict[str, Tensor]()

        def add(name: str, a: Tensor, b: Tensor) -> None:
            sums[name] = sums[name].addmm_(a.T, b) if name in sums else a.T @ b

        for x, z, w in pairs:
            u = x - z
            n += len(z)
            add("h", z, z)
            add("c", u, z)
            add("q", u, u)
            if w is not None:
                add("d", w, z)
                add("e", w, u)
                lack += float(w.square().sum())
        sums["h"] = (sums["h"] + sums["h"].T) / 2
        return cls(n=n, lack=lack / n, **{name: (each / n).cpu().numpy() for name, each in sums.items()})

    def wanted(self, weight: NDArray[np.float64], plan: Drift) -> NDArray[np.float64]:
        """E t z^T. Shape: (out, in)."""
        wanted = plan.share * (weight @ self.c)
        if self.d is not None and self.d.shape == weight.shape:
            wanted = wanted + plan.residual * self.d
        return wanted

    def target_of(self, checkpoint: Checkpoint, name: str, plan: Drift) -> Array:
        """`target` of a stored tensor, in its shape."""
        weight = checkpoint.tensor(name)
        return self.target(weight.reshape(-1, weight.shape[-1]), plan).reshape(weight.shape)

    def target(self, weight: Array, plan: Drift) -> Array:
        """Shape: (out, in). The weight itself where the inputs are all zero, or nothing but chance is seen."""
        h, wide = self.h.astype(np.float64), weight.astype(np.float64)
        mean = float(np.mean(np.diag(h)))
        if not mean > 0:
            return weight
        wanted, wished = self.wanted(wide, plan), plan.share**2 * float(((wide @ self.q) * wide).sum())
        if self.d is not None and self.e is not None and self.d.shape == wide.shape:
            wished += 2 * plan.share * plan.residual * float((wide * self.e).sum()) + plan.residual**2 * self.lack
        damped = h + plan.damp * mean * np.eye(len(h))
        change = np.linalg.solve(damped, wanted.T).T
        gain, cost = float((change * wanted).sum()), float(((change @ h) * change).sum())
        by_chance = float(np.trace(np.linalg.solve(damped, h))) * max(0.0, wished - 2 * gain + cost) / self.n
        step = min(1.0, max(0.0, gain - by_chance) / cost) if cost > 0 else 0.0
        return np.asarray(weight + step * change, np.float32)


def _pairs(exact: _Copy, moving: _Copy, stage: Stage) -> Iterator[Pair]:
    """x, z and r - s of every batch."""
    for (x, r), (z, s) in zip(exact.staged.inputs(stage), moving.staged.inputs(stage), strict=True):
        yield x, z, None if r is None or s is None else r - s


def quantize_towards(
    targets: Mapping[str, Array],
    hessian: Array,
    checkpoint: Checkpoint,
    applied: Applied,
    calibration: Calibration,
) -> dict[str, Record]:
    """Matrices of one input, with targets in place of their weights and one Hessian in place of their own."""
    hessians = {f"{name}.hessian" for name in targets}
    now = dataclasses.replace(
        checkpoint, load=lambda name: targets[name] if name in targets else checkpoint.load(name)
    )
    statistics = dataclasses.replace(
        calibration, load=lambda key: hessian if key in hessians else calibration.load(key)
    )
    return {each.name: each for each in quantize(now, applied, statistics, names=list(targets)).records}
