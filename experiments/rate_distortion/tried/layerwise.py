"""Layer by layer: each matrix quantized towards what the layers below it, quantized already, make of its inputs.

    python -m experiments.rate_distortion.layerwise demo/model.safetensors > results/layerwise.md

x are a matrix's inputs in the fp32 model, z in the model whose lower layers are quantized. Two ways to use z:
H = E z z^T in place of E x x^T, and the target w + share * w (C - H) (H + damp)^-1, C = E x z^T, which minimizes
|w x - v z| (GPTAQ, arXiv:2504.02692). Training what is not yet quantized is another one (`pgpack.refine.compensate`).
Qronos (arXiv:2505.11695) rounds the first column towards the best value for the *old* other columns and is the same
as GPTAQ's target from the second column on; one column of 288 was not measured apart.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from experiments.rate_distortion.comparison import KEPT_BACK, N_TOKENS, Case, Coded, Comparison, open_comparison
from pgpack.calibration.calibration import LOOKUP
from pgpack.calibration.observe import _Watch
from pgpack.tensors.record import Record

Arrays = dict[str, NDArray[np.float32]]
BATCH_WINDOWS = 16
TUNED_WINDOWS = 8  # in a batch


class _Seen(Exception):
    """All inputs that were asked for."""


class _Inputs(_Watch):
    """The inputs of some products, in order; stops the model once it has `expected` of them."""

    def __init__(self, parameters: Mapping[str, Tensor], names: frozenset[str], expected: int = 0) -> None:
        super().__init__(parameters)
        self.names, self.expected = names, expected
        self.inputs: list[tuple[str, Tensor]] = []

    def _see(self, x: Tensor, y: Tensor, name: str, transposed: bool) -> None:
        if transposed or name not in self.names:
            return
        self.inputs.append((name, x.detach().reshape(-1, x.shape[-1]).float()))
        if len(self.inputs) == self.expected:
            raise _Seen

    def _look_up(self, ids: Tensor, rows: Tensor, table: Tensor, name: str) -> None:
        return


def inputs_of(model: nn.Module, ids: Tensor, names: frozenset[str], expected: int = 0) -> list[tuple[str, Tensor]]:
    watch = _Inputs({name: p for name, p in model.named_parameters() if p.ndim == 2}, names, expected)
    try:
        with torch.no_grad(), watch:
            model.forward_logits(ids)  # type: ignore[operator]
    except _Seen:
        pass
    return watch.inputs


@dataclass(frozen=True, eq=False)
class Model:
    """The model of a comparison and its calibration text."""

    comparison: Comparison

    @cached_property
    def windows(self) -> NDArray[np.int64]:
        text = self.comparison.laboratory.bench.text
        return text.calib_tokens[:N_TOKENS].astype(np.int64).reshape(-1, text.seq_len)

    @cached_property
    def batches(self) -> list[Tensor]:
        return list(torch.split(torch.from_numpy(self.windows), BATCH_WINDOWS))

    def build(self, tensors: Mapping[str, Any]) -> nn.Module:
        aliases = self.comparison.laboratory.checkpoint.aliases
        state = {name: torch.tensor(array) for name, array in tensors.items()}
        state |= {alias: state[name] for alias, name in aliases.items()}
        return self.comparison.laboratory.bench.text.build(state).eval()

    @cached_property
    def reference(self) -> nn.Module:
        return self.build(self.comparison.tensors)

    @cached_property
    def stages(self) -> list[list[str]]:
        """Matrices that can be quantized at once, in the order of the model: those that share one input."""
        matrices = frozenset(self.comparison.laboratory.matrices)
        seen = inputs_of(self.reference, self.batches[0][:1], matrices)
        looked_up = {key.removesuffix(f"{LOOKUP}.hessian") for key in self.comparison.arrays if LOOKUP in key}
        stages, placed = [sorted(looked_up & matrices)], set(looked_up)
        last: Tensor | None = None
        for name, x in seen:
            if name in placed:
                continue
            placed.add(name)
            same = last is not None and x.shape == last.shape and torch.equal(x, last)
            stages[-1].append(name) if same else stages.append([name])
            last = x
        return [stage for stage in stages if stage]

    @cached_property
    def references(self) -> dict[str, list[list[tuple[str, Tensor]]]]:
        """The fp32 model's inputs of every stage, by its first name, batch by batch."""
        return {
            stage[0]: [inputs_of(self.reference, ids, frozenset(stage[:1])) for ids in self.batches]
            for stage in self.stages
        }

    def moments(self, stage: list[str], tensors: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(H, C) of a stage's shared inputs, summed over its runs in a pass."""
        model, H, C = self.build(tensors), torch.zeros(()), torch.zeros(())
        for ids, before in zip(self.batches, self.references[stage[0]], strict=True):
            now = inputs_of(model, ids, frozenset(stage[:1]), len(before))
            for (_, x), (_, z) in zip(before, now, strict=True):
                H = H + z.T @ z / N_TOKENS
                C = C + x.T @ z / N_TOKENS
        return H.numpy(), C.numpy()

    def fresh(self) -> Iterator[Tensor]:
        """Batches of calibration text that no Hessian has seen, without end."""
        text = self.comparison.laboratory.bench.text
        tokens = text.calib_tokens[N_TOKENS : -KEPT_BACK - 1].astype(np.int64)
        windows = torch.from_numpy(tokens[: len(tokens) // text.seq_len * text.seq_len]).view(-1, text.seq_len)
        while True:
            yield from torch.split(windows, TUNED_WINDOWS)


@dataclass(frozen=True, eq=False)
class Feedback:
    """A case: matrix by matrix with inputs seen in the quantized model. `own`: H of those inputs, else fp32's."""

    model: Model
    own: bool = True
    share: float = 0.0
    damp: float = 0.1

    def __call__(self, step: float) -> Coded:
        comparison = self.model.comparison
        matrices = {name for stage in self.model.stages for name in stage}
        small = {name: array for name, array in comparison.tensors.items() if name not in matrices}
        records: list[Record] = list(comparison.quantized(small, step, comparison.arrays))
        now = dict(comparison.tensors)
        for stage in self.model.stages:
            targets, arrays = {name: now[name] for name in stage}, dict(comparison.arrays)
            if not any(f"{name}{LOOKUP}.hessian" in arrays for name in stage):
                H, C = self.model.moments(stage, now)
                for name in stage:
                    arrays[f"{name}.hessian"] = H if self.own else arrays[f"{name}.hessian"]
                    targets[name] = self._target(now[name], H, C)
            done = comparison.quantized(targets, step, arrays)
            records += done
            now |= {record.name: record.dequantize() for record in done}
        return Coded(records)

    def _target(self, W: NDArray[Any], H: NDArray[Any], C: NDArray[Any]) -> NDArray[np.float32]:
        damped = H.astype(np.float64) + self.damp * np.mean(np.diag(H)) * np.eye(len(H))
        shift = np.linalg.solve(damped, (W.astype(np.float64) @ (C - H)).T).T
        return (W + self.share * shift).astype(np.float32)


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model.forward_logits(ids)  # type: ignore[operator]
        return logits.float()


def divergence(reference: nn.Module, state: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """KL(reference || the model of `state`), nats per token."""
    model = _Logits(reference)
    with torch.no_grad():
        expected = F.log_softmax(model(ids), dim=-1)
    logits = functional_call(model, {f"model.{name}": tensor for name, tensor in state.items()}, (ids,))
    return (expected.exp() * (expected - F.log_softmax(logits, dim=-1))).sum() / ids.numel()


def cases(comparison: Comparison) -> Iterator[tuple[str, Case]]:
    model = Model(comparison)
    yield "H of quantized inputs", Feedback(model)
    for share in (0.5, 1.0):
        yield f"H and targets, share {share:g}, damp 0.1", Feedback(model, True, share)


def main() -> None:
    """Print the page."""
    comparison = open_comparison(Path(sys.argv[1]))
    comparison.publish("Layer by layer", "experiments.rate_distortion.tried.layerwise", cases(comparison))


if __name__ == "__main__":
    main()
