"""The tied embedding: its share of the bits, its estimate of sensitivity, cheaper residuals, a priced fine-tune.

    python -m experiments.rate_distortion.embeddings demo/model.safetensors > results/embeddings.md

It holds a quarter of the demo's bytes. Everything else stays as the engine has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.rate_distortion.comparison import KEPT_BACK, N_TOKENS, Case, Coded, Comparison, open_comparison
from pgpack.calibration.calibration import LOOKUP
from pgpack.quantizers.base import QuantizerInput
from pgpack.quantizers.tcq import NOISE, Tcq
from pgpack.tensors.record import Record

from .fisher import calibrated, weighted
from .gradients import BATCH_WINDOWS, gradient_moments
from .layerwise import Model, divergence

Arrays = dict[str, NDArray[np.float32]]
Split = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], int]]


def table_of(comparison: Comparison) -> str:
    """The name of the tied table."""
    return next(
        key.removesuffix(f"{LOOKUP}.hessian") for key in comparison.arrays if key.endswith(f"{LOOKUP}.hessian")
    )


@dataclass(frozen=True, eq=False)
class Table:
    """A case whose table is quantized in another way, less what `split` takes out of it.

    `factor`: on the table's step; `rows` as in `Tcq`. `split`: table -> (what the decoder adds, its bytes).
    """

    comparison: Comparison
    factor: float = 1.0
    rows: float = 0.5
    split: Split | None = None

    def __call__(self, step: float) -> Coded:
        comparison, name = self.comparison, table_of(self.comparison)
        rest = {key: array for key, array in comparison.tensors.items() if key != name}
        weight, arrays = comparison.tensors[name], comparison.arrays
        added, extra = self.split(weight) if self.split else (np.zeros_like(weight), 0)
        known = [arrays[f"{name}{part}"] for part in (".hessian", ".fisher")]
        looked_up = [arrays[f"{name}{LOOKUP}{part}"] for part in (".hessian", ".fisher")]
        source = QuantizerInput(name, weight - added, *known, None, *looked_up)
        table = Tcq(step * self.factor, rows=self.rows).quantize(source)
        records = [*comparison.quantized(rest, step, arrays), Record(name, weight.shape, "plain", (table,))]
        return Coded(records, {name: added} if self.split else {}, extra)


def mean_row(weight: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """The mean of all rows, in fp16."""
    mean = weight.mean(axis=0).astype(np.float16)
    return np.broadcast_to(mean.astype(np.float32), weight.shape), mean.nbytes


def first_components(rank: int) -> Split:
    """The nearest matrix of a rank, both factors in int8 with one scale each."""

    def split(weight: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        U, s, V = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
        parts = []
        for vectors in (U[:, :rank].T * np.sqrt(s[:rank, None]), V[:rank] * np.sqrt(s[:rank, None])):
            scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
            parts.append(np.rint(vectors / scale) * scale)
        return (parts[0].T @ parts[1]).astype(np.float32), rank * (sum(weight.shape) + 8)

    return split


def expected_fisher(comparison: Comparison) -> Arrays:
    """Without sampling: f_v = mean p_v (1 - p_v) times the soft cap's slope squared; shares counted over all text."""
    name, text = table_of(comparison), comparison.laboratory.bench.text
    model: Any = text.build({key: torch.tensor(array) for key, array in comparison.tensors.items()})
    cap = model.config.logit_softcap
    windows = torch.from_numpy(text.calib_tokens[:N_TOKENS].astype(np.int64)).view(-1, text.seq_len)
    total = torch.zeros(())
    with torch.no_grad():
        for ids in torch.split(windows, BATCH_WINDOWS):
            logits = model.forward_logits(ids).flatten(0, 1)
            p = logits.softmax(-1)
            total = total + (p * (1 - p) * (1 - (logits / cap).square()).square()).sum(0)
    tokens = text.calib_tokens[: -KEPT_BACK - 1]
    counts = np.bincount(tokens, minlength=len(total)) / len(tokens)
    found = {f"{name}.fisher": (total / N_TOKENS).numpy(), f"{name}{LOOKUP}.fisher": counts.astype(np.float32)}
    return dict(comparison.arrays) | found


@dataclass(frozen=True, eq=False)
class Priced:
    """A case: weights tuned for KL + NOISE step^2 (nats of their values), then quantized by the engine.

    Nats of a value w: w^2 / 2 s^2, s^2 the power that its row and column have. `strength`: on the second term.
    `whole`: all matrices, else the table alone.
    """

    model: Model
    count: int
    lr: float
    strength: float
    whole: bool

    def __call__(self, step: float) -> Coded:
        comparison = self.model.comparison
        names = comparison.laboratory.matrices if self.whole else [table_of(comparison)]
        fixed = {name: torch.tensor(array) for name, array in comparison.tensors.items() if name not in names}
        tuned = {name: torch.tensor(comparison.tensors[name], requires_grad=True) for name in names}
        price = {name: self.strength * NOISE * step**2 / (2 * _power(tensor)) for name, tensor in tuned.items()}
        groups = [{"params": [t], "base": self.lr * float(t.detach().square().mean().sqrt())} for t in tuned.values()]
        optimizer = torch.optim.Adam(groups, lr=self.lr, betas=(0.9, 0.99))
        for at, ids in zip(range(self.count), self.model.fresh(), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * (1 - at / self.count)
            loss = divergence(self.model.reference, fixed | tuned, ids)
            loss = loss + sum((price[name] * tensor.square()).sum() for name, tensor in tuned.items())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        tensors = dict(comparison.tensors) | {name: tensor.detach().numpy() for name, tensor in tuned.items()}
        return Coded(comparison.quantized(tensors, step, comparison.arrays))


def _power(tensor: torch.Tensor) -> torch.Tensor:
    square = tensor.detach().square()
    rows, columns = square.mean(1, keepdim=True), square.mean(0, keepdim=True)
    return rows * columns / square.mean()


def cases(comparison: Comparison) -> Iterator[tuple[str, Case]]:
    yield "the table's step x 0.8", Table(comparison, factor=0.8)
    yield "the table's step x 1.25", Table(comparison, factor=1.25)
    yield "its row steps three quarters", Table(comparison, rows=0.75)
    name, both = table_of(comparison), expected_fisher(comparison)
    yield "expected Fisher, frequencies of all text", calibrated(comparison, both)
    for what, key in (("expected Fisher alone", f"{name}.fisher"), ("frequencies alone", f"{name}{LOOKUP}.fisher")):
        yield what, calibrated(comparison, dict(comparison.arrays) | {key: both[key]})
    sampled = gradient_moments(comparison.laboratory.bench.text, comparison.tensors, N_TOKENS, seed=1)
    own = {key: array for key, array in weighted(sampled).items() if key.startswith(name)}
    yield "its inputs weighted by token", calibrated(comparison, dict(comparison.arrays) | own)
    yield "mean row taken out", Table(comparison, split=mean_row)
    yield "rank 1 taken out", Table(comparison, split=first_components(1))
    model = Model(comparison)
    for whole, strength in ((False, 1.0), (True, 0.5)):
        what = "all matrices" if whole else "the table"
        yield f"{what} tuned for KL + {strength:g} price, 16 steps", Priced(model, 16, 0.003, strength, whole)


def main() -> None:
    """Print the page."""
    comparison = open_comparison(Path(sys.argv[1]))
    comparison.publish("The tied embedding", "experiments.rate_distortion.tried.embeddings", cases(comparison))


if __name__ == "__main__":
    main()
