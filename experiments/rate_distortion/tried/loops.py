"""Recurrent blocks: a matrix that runs several times in a pass has several inputs and several sensitivities.

    pgtrain run --preset recurrence-3x3-skips-tiny --data demo/text --steps 200 -o runs/rd/loops.safetensors
    python -m experiments.rate_distortion.loops runs/rd/loops.safetensors > results/loops.md

The engine sums over the runs v of a pass: f = sum f_v and H = sum H_v, and a looped matrix costs f e H e. Were the
errors of its runs independent, it would cost e (sum f_v H_v) e; were they all alike, more than that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.rate_distortion.comparison import N_TOKENS, Case, Comparison, open_comparison
from pgpack.calibration.calibration import LOOKUP
from pgpack.calibration.observe import _Watch

from .fisher import Rows, calibrated, scaled
from .gradients import BATCH_WINDOWS, Arrays, gradient_moments, logit_gradients, whole_gradients
from .layerwise import Feedback, Model


class _Runs(_Watch):
    """Second moments of inputs and squared gradients, run by run."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(parameters)
        self.at: dict[str, int] = {}
        self.by_run: dict[tuple[str, int], Tensor] = {}
        self.squares_by_run: dict[tuple[str, int], Tensor] = {}

    def _see(self, x: Tensor, y: Tensor, name: str, transposed: bool) -> None:
        if transposed:
            return
        key = name, self.at.get(name, 0)
        self.at[name] = key[1] + 1
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        moment = rows.T @ rows
        self.by_run[key] = self.by_run[key] + moment if key in self.by_run else moment
        y.register_hook(lambda gradient: self._add_run(key, gradient))

    def _add_run(self, key: tuple[str, int], gradient: Tensor) -> None:
        square = gradient.detach().reshape(-1, gradient.shape[-1]).float().square().sum(0)
        self.squares_by_run[key] = self.squares_by_run[key] + square if key in self.squares_by_run else square

    def forget(self) -> None:
        super().forget()
        self.at = {}


def by_run(comparison: Comparison) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """(H_v, f_v) of every run of every matrix, labels drawn from the model."""
    text = comparison.laboratory.bench.text
    model = text.build({name: torch.tensor(array) for name, array in comparison.tensors.items()})
    parameters = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    watch, generator = _Runs(parameters), torch.Generator().manual_seed(1)
    windows = torch.from_numpy(text.calib_tokens[:N_TOKENS].astype(np.int64)).view(-1, text.seq_len)
    for ids in torch.split(windows, BATCH_WINDOWS):
        with watch:
            logits = model.forward_logits(ids)  # type: ignore[operator]
        logits.reshape(-1, logits.shape[-1]).backward(logit_gradients(logits, ids, "sampled", generator))
        model.zero_grad(set_to_none=True)
        watch.forget()
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for (name, run), moment in sorted(watch.by_run.items()):
        found.setdefault(name, []).append((moment / N_TOKENS, watch.squares_by_run[name, run] / N_TOKENS))
    return found


def run_weighted(arrays: Arrays, runs: Mapping[str, list[tuple[Tensor, Tensor]]], alike: bool) -> Arrays:
    """H = sum F_v H_v / sum F_v, F_v = sum of f_v: each run's inputs by its own weight.

    `alike`: scaled to the trace of the sum of all H_v, as if the errors of all runs added up.
    """
    found = dict(arrays)
    for name, each in runs.items():
        if f"{name}{LOOKUP}.hessian" in arrays:
            continue
        shares = torch.stack([f.sum() for _, f in each])
        H = sum(s * H for s, (H, _) in zip(shares / shares.sum(), each, strict=True))
        assert isinstance(H, Tensor)
        if alike:
            H = H * (sum(h.trace() for h, _ in each) / H.trace())
        found[f"{name}.hessian"] = H.numpy()
    return found


def cases(comparison: Comparison) -> Iterator[tuple[str, Case]]:
    runs = by_run(comparison)
    for name, each in runs.items():
        shares = " ".join(f"{float(f.sum() * H.trace()):.3g}" for H, f in each)
        print(f"{name}: {shares}", file=sys.stderr)
    text, tensors = comparison.laboratory.bench.text, comparison.tensors
    sampled = gradient_moments(text, tensors, N_TOKENS, seed=1)
    yield "sampled labels, another seed", calibrated(comparison, sampled)
    yield "H weighted by run, trace of the sum", calibrated(comparison, run_weighted(sampled, runs, True))
    yield "H weighted by run, runs independent", calibrated(comparison, run_weighted(sampled, runs, False))
    norms = whole_gradients(text, tensors, N_TOKENS)
    yield "sums, tensors scaled by whole gradients", calibrated(comparison, scaled(sampled, norms, 1.0))
    yield "rows correct each other: groups of 32, damp 0.03", Rows(comparison, sampled)
    yield "layer by layer: H and targets, share 0.5, damp 0.1", Feedback(Model(comparison), share=0.5)


def main() -> None:
    """Print the page."""
    comparison = open_comparison(Path(sys.argv[1]))
    comparison.publish("Recurrent blocks", "experiments.rate_distortion.tried.loops", cases(comparison))


if __name__ == "__main__":
    main()
