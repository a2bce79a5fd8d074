"""Better estimates of what an error costs: labels, draws, weighted Hessians, whole gradients, rows together.

    python -m experiments.rate_distortion.fisher demo/model.safetensors > results/fisher.md

The engine's estimate takes f_i e_i H e_i for every row i, f from one label per token that is drawn from the model.
Compared: other labels; more of them; inputs weighted by what their token matters; tensors scaled by the gradient of
whole windows; and, with the second moments of output gradients, rows that correct each other
(`pgpack.quantizers.row_feedback`), the tied table's too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.rate_distortion.comparison import N_TOKENS, Case, Coded, Comparison, open_comparison
from pgpack.calibration.calibration import LOOKUP
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.tcq import Tcq
from pgpack.tensors.record import Record

from .gradients import Arrays, gradient_moments, whole_gradients


def calibrated(comparison: Comparison, arrays: Arrays) -> Case:
    """The engine with another calibration."""
    return lambda step: Coded(comparison.quantized(comparison.tensors, step, arrays))


def weighted(arrays: Arrays, share: float = 1.0) -> Arrays:
    """Hessians that go `share` of the way to H_d."""
    found = dict(arrays)
    for key in arrays:
        name, _, kind = key.rpartition(".")
        if kind == "weighted":
            found[f"{name}.hessian"] = (1 - share) * arrays[f"{name}.hessian"] + share * arrays[key]
    return found


def scaled(arrays: Arrays, norms: Mapping[str, float], power: float) -> Arrays:
    """Fisher weights times (`norms`, of whole gradients / what f tr H says)^power, by matrix."""
    found = dict(arrays)
    for name, norm in norms.items():
        if f"{name}.hessian" not in arrays:
            continue
        parts = [part for part in (name, name + LOOKUP) if f"{part}.hessian" in arrays]
        estimate = sum(arrays[f"{p}.fisher"].sum() * np.trace(arrays[f"{p}.hessian"]) for p in parts)
        ratio = norm / float(estimate)
        print(f"{name}: whole gradient over its estimate {ratio:.2f}", file=sys.stderr)
        for part in parts:
            found[f"{part}.fisher"] = (arrays[f"{part}.fisher"] * ratio**power).astype(np.float32)
    return found


@dataclass(frozen=True, eq=False)
class Rows:
    """A case whose matrices have rows that correct each other. `table`: the tied table's too, else as the engine."""

    comparison: Comparison
    arrays: Arrays
    group: int = 32
    damp: float = 0.03
    table: bool = False

    def __call__(self, step: float) -> Coded:
        tensors, arrays = self.comparison.tensors, self.arrays
        names = [
            name
            for name in tensors
            if f"{name}.output" in arrays and (self.table or f"{name}{LOOKUP}.hessian" not in arrays)
        ]
        rest = {name: array for name, array in tensors.items() if name not in names}
        records = list(self.comparison.quantized(rest, step, arrays))
        for name in names:
            H, G = both_sides(arrays, name)
            source = QuantizerInput(name, tensors[name], H, np.diag(G).copy(), outputs=G)
            quantized = Tcq(step, group=self.group, row_damp=self.damp).quantize(source)
            records.append(Record(name, tensors[name].shape, "plain", (quantized,)))
        return Coded(records)


def both_sides(arrays: Arrays, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, G) of a matrix; for a tied table one of each, joined as `pgpack.quantizers.tcq.sensitivity` does."""
    H, G = arrays[f"{name}.hessian"], arrays[f"{name}.output"]
    if f"{name}{LOOKUP}.hessian" not in arrays:
        return H, G
    looked_up, shares = arrays[f"{name}{LOOKUP}.hessian"], arrays[f"{name}{LOOKUP}.fisher"]
    F, P, trace_H, trace = np.trace(G), shares.sum(), np.trace(H), np.trace(looked_up)
    joined = (G * trace_H + np.diag(shares) * trace) / (F * trace_H + P * trace)
    return (F * H + P * looked_up).astype(np.float32), joined.astype(np.float32)


def cases(comparison: Comparison) -> Iterator[tuple[str, Case]]:
    text, tensors = comparison.laboratory.bench.text, comparison.tensors
    sampled = gradient_moments(text, tensors, N_TOKENS, seed=1)
    yield "sampled labels, another seed", calibrated(comparison, sampled)
    for group, damp in ((8, 0.03), (16, 0.03), (32, 0.03), (32, 0.01), (32, 0.1), (32, 0.5), (128, 0.1)):
        yield f"rows correct each other: groups of {group}, damp {damp:g}", Rows(comparison, sampled, group, damp)
    yield "the tied table's too: 32, 0.1", Rows(comparison, sampled, damp=0.1, table=True)
    half, full = weighted(sampled, 0.5), weighted(sampled)
    yield "inputs weighted by token, half", calibrated(comparison, half)
    yield "inputs weighted by token", calibrated(comparison, full)
    yield "rows correct each other: 32, 0.1; inputs weighted", Rows(comparison, full, damp=0.1)
    yield (
        "the text's labels (empirical Fisher)",
        calibrated(comparison, gradient_moments(text, tensors, N_TOKENS, "text")),
    )
    yield "4 labels a token", calibrated(comparison, gradient_moments(text, tensors, N_TOKENS, draws=4))
    yield "4 probes a token", calibrated(comparison, gradient_moments(text, tensors, N_TOKENS, "probe", 4))
    norms = whole_gradients(text, tensors, N_TOKENS)
    for power in (1.0, 0.5):
        yield f"tensors scaled by whole gradients^{power:g}", calibrated(comparison, scaled(sampled, norms, power))


def main() -> None:
    """Print the page."""
    comparison = open_comparison(Path(sys.argv[1]))
    comparison.publish(
        "Better estimates of what an error costs", "experiments.rate_distortion.tried.fisher", cases(comparison)
    )


if __name__ == "__main__":
    main()
