"""Tuning what decodes the symbols, by gradient against the fp32 model. Needs torch.

    symbols (fixed) --step * 2^row * 2^column--> W --model--> log p      loss: KL(fp32 model || this model), by Adam
    fp16 tensors ------------------------------>                        on calibration tokens

Owns `tune`: records in, records with the same symbols and other grids out. It knows trellis grids and small raw
tensors; everything else is left as it is and takes part in the forward pass only.
Evaluated text is the caller's to keep out: the tokens must be calibration tokens.

Measured on one challenge checkpoint of 0.48 M weights (tcq step 0.0006, 8 states, 101,799 bytes, KL 0.02697 on
16,384 unseen tokens), 65,536 calibration tokens, one seed, batches of 2048; the settings were compared on those same
unseen tokens, so that the last digits flatter the choice. "Net": bytes saved at equal KL, by interpolation of log KL
between tcq steps 0.00045 (117,891 bytes, 0.01401) and 0.0006, less the bytes that the finer exponents cost.

* `tune`, 100 steps at lr 0.03: KL 0.02043, +983 bytes, net 5.8 kB; 150 steps: KL 0.02001, +936 bytes, net 6.4 kB;
  70 steps at lr 0.02: KL 0.02100, +868 bytes, net 5.3 kB; in quarters of octaves: KL 0.02159, +362 bytes, 5.1 kB;
  rows in halves and columns in quarters: KL 0.02264, +129 bytes, 4.2 kB.
* What is tuned, before rounding, 70 steps at lr 0.01: a step per tensor 0.02586, raw tensors 0.02459, both 0.02418,
  step and columns 0.02135, step and rows but the embedding's 0.02134, with the embedding's 0.02053, all but raw
  tensors 0.01911, all 0.01897; all with half the tokens 0.01862, in 150 steps 0.01797, in 30 (lr 0.02) 0.02014.
* *(negative)* Rounding in every forward pass (straight-through) loses to rounding once at the end: KL 0.02573 for
  0.02126 in eighths, 0.02225 for 0.02005 in sixteenths. Rounding later, at 0.6 to 0.9 of the steps: no difference.
* Since `tcq` counts bits in its decisions there is less to win, and haste costs: on the 2 M demo (64 states, 497,754
  bytes, KL 0.00705) 40 steps at lr 0.03 are rejected on the batches kept back, 100 at 0.01 give 0.00646 for +1,287
  bytes, 100 at 0.004 in quarters of octaves 0.00670 for +44 bytes.
* On SmolLM2 (135 M; 64 states, drift followed, 38.7 MB) 40 and 60 steps at 0.01 are rejected: 390,355 numbers that
  each move by the same overshoot. On three batches kept back (KL 0.2971) 16 steps of what is stored exactly, steps
  and raw tensors, give 0.2879 at 0.003 and 0.2909 at 0.001, for no byte; with the exponents at 0.002 0.2789, which
  is 0.2917 once they are in eighths: they had moved by 0.0045 octaves. Gradients of two batches of 2048 agree
  (cosines 0.86 steps, 0.89 raw, 0.84 columns, 0.59 rows), and in bfloat16 they are the same to a cosine of 0.999,
  in half the time. On the 2 M demo (435,176 bytes, KL 0.01083) 40 such steps at 0.003 give 0.01022 for -129 bytes.
  100 at 0.006 give 0.01000 for -77 bytes, and 100 of all at 0.01 0.00969 for +1,448, which is the more by half a
  percent.
* Open: finer exponents. Rounded once at the end of 70 steps, sixteenths of octaves net 5.7 kB where eighths net
  4.9 kB; that takes another kind of grid.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgpack.loss.bpb import Build
from pgpack.pack import Quantized
from pgpack.recipe.directives import Tune
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record
from pgpack.tensors.trellis_grid import TrellisGrid

from .divergence import Batches, Divergence, warmed
from .fresh_text import BATCH_TOKENS

EIGHTHS = 8  # the resolution of a trellis grid's exponents, in steps an octave
SMALL = 8192  # raw tensors of at most so many values are tuned
STAGES = (0.5, 0.6, 0.7, 0.8)  # of all steps: where a further quarter of the exponents is rounded and kept
RAW_SHARE = 0.3  # of lr: the largest change of a raw tensor per step, in units of its root mean square


def tune(
    quantized: Quantized,
    build: Build,
    reference: Mapping[str, NDArray[Any]],
    tokens: NDArray[np.integer[Any]],
    seq_len: int,
    steps: Tune,
    *,
    raw: bool = True,
    batch_tokens: int = BATCH_TOKENS,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, float], None] = lambda step, kl: None,
) -> Quantized:
    """`quantized` with the same symbols and grids that bring the model nearer to `reference`, its fp32 tensors.

    Exponents are tuned as real numbers, then rounded by quarters, those nearest to a whole number first, while the
    others and finally steps and raw tensors alone make up for it. Unless the KL falls on the calibration batches
    kept back, `quantized` itself comes back. `build`: state dict -> module whose parameters have the state dict's
    names. `steps`: how many batches of `batch_tokens`, drawn in an order by `seed`, and how finely exponents are
    stored. `raw`: whether small float tensors are tuned too. `progress` is told each step and its KL, in nats per
    token. Deterministic for one thread count.
    Raises RecipeError when there is less than 1 token to a batch; CalibrationError when there are fewer tokens than
    two windows, or a tensor is no parameter of the model.
    """
    started = time.perf_counter()
    batches = Batches(tokens, seq_len, batch_tokens, device)
    if not steps.count:
        return quantized
    divergence = Divergence(build, reference, quantized.aliases, device)
    tensors = {record.name: _tensor(record, steps, raw, device) for record in quantized.records}
    divergence.require([name for name, each in tensors.items() if each.parameters])
    before = divergence.mean(_weights(tensors), batches.checked)
    _descend(tensors, divergence, batches.shuffled(seed), steps, progress)
    if not divergence.mean(_weights(tensors), batches.checked) < before:
        return quantized
    records = tuple(
        dataclasses.replace(record, parts=(each.part(),)) if (each := tensors[record.name]).parameters else record
        for record in quantized.records
    )
    elapsed = time.perf_counter() - started
    return dataclasses.replace(quantized, records=records, quantize_s=quantized.quantize_s + elapsed)


class _Exponents:
    """Exponents of the rows or columns of one matrix in eighths of octaves; some of them are kept at whole steps."""

    def __init__(self, values: NDArray[Any], n: int, per_octave: int, device: str) -> None:
        start = values.astype(np.float32) if values.size else np.zeros(n, np.float32)
        self.start = torch.from_numpy(start).to(device) / EIGHTHS
        self.delta = torch.zeros(n, device=device, requires_grad=True)
        self.kept = torch.full((n,), math.nan, device=device)
        self.per_octave = per_octave

    @property
    def octaves(self) -> Tensor:
        return torch.where(self.kept.isnan(), self.start + self.delta, self.kept)

    @torch.no_grad()
    def keep(self, share: float) -> None:
        """Round that share of all exponents, those nearest to their rounded values first."""
        free = self.start + self.delta
        limit = torch.tensor((-128 // EIGHTHS, 127 // EIGHTHS), dtype=torch.float32)
        rounded = (free * self.per_octave).round().clamp(*(limit * self.per_octave).tolist()) / self.per_octave
        distance = torch.where(self.kept.isnan(), (rounded - free).abs(), -1.0)
        chosen = distance.argsort(stable=True)[: math.ceil(share * len(free))]
        self.kept[chosen] = torch.where(self.kept.isnan(), rounded, self.kept)[chosen]

    def stored(self) -> NDArray[np.int8]:
        eighths: NDArray[np.int8] = np.rint(self.octaves.detach().cpu().numpy() * EIGHTHS).astype(np.int8)
        return eighths


class _Fixed:
    """A tensor that is not tuned."""

    def __init__(self, record: Record, device: str) -> None:
        self.values = torch.tensor(record.dequantize()).to(device)
        self.parameters: dict[str, Tensor] = {}
        self.exponents: list[_Exponents] = []

    def weights(self) -> Tensor:
        return self.values

    def part(self) -> QuantizedTensor:
        raise AssertionError("a fixed tensor keeps its record")


class _Raw(_Fixed):
    """A raw tensor, moved in units of its root mean square."""

    def __init__(self, record: Record, device: str) -> None:
        super().__init__(record, device)
        self.source = record.parts[0]
        self.unit = self.values.square().mean().sqrt()
        self.delta = torch.zeros_like(self.values, requires_grad=True)
        self.parameters = {"raw": self.delta}

    def weights(self) -> Tensor:
        return self.values + self.unit * self.delta

    def part(self) -> QuantizedTensor:
        assert isinstance(self.source.grid, RawValues)
        values = self.weights().detach().cpu().numpy().reshape(self.source.symbols.shape)
        return dataclasses.replace(self.source, symbols=self.source.grid.symbols_of(values))


class _Trellis(_Fixed):
    """A trellis-coded matrix: levels times step, row factors and column factors."""

    def __init__(self, record: Record, grid: TrellisGrid, steps: Tune, device: str) -> None:
        super().__init__(record, device)
        self.source, self.grid = record.parts[0], grid
        self.levels = torch.from_numpy(grid.levels(self.source.symbols)).to(device)
        n_rows, n_columns = self.levels.shape
        self.rows = _Exponents(grid.row_exponents(n_rows), n_rows, steps.rows, device)
        self.columns = _Exponents(grid.columns, n_columns, steps.columns, device)
        self.log_step = torch.zeros((), device=device, requires_grad=True)
        self.parameters = {"step": self.log_step}
        if steps.rows:
            self.parameters["rows"] = self.rows.delta
            self.exponents.append(self.rows)
        if steps.columns:
            self.parameters["columns"] = self.columns.delta
            self.exponents.append(self.columns)

    def weights(self) -> Tensor:
        factor = (self.rows.octaves + self.log_step).exp2()[:, None] * self.columns.octaves.exp2()
        return (self.levels * factor * self.grid.step).view(self.values.shape)

    def part(self) -> QuantizedTensor:
        trims = self._trims() if self.rows in self.exponents else self.grid.trims
        columns = self.columns.stored() if self.columns in self.exponents else self.grid.columns
        step = float(np.float32(self.grid.step * 2.0 ** float(self.log_step.detach())))
        return dataclasses.replace(
            self.source, grid=TrellisGrid(columns, self.grid.rows, trims, step, self.grid.states)
        )

    def _trims(self) -> NDArray[np.int8]:
        """What the rows' exponents have moved; `rows` itself sets the trellis's path and stays."""
        exponents = self.rows.stored()
        if not self.grid.rows.size:
            return exponents
        trims: NDArray[np.int8] = np.clip(exponents.astype(np.int16) - self.grid.rows, -128, 127).astype(np.int8)
        return trims


def _tensor(record: Record, steps: Tune, raw: bool, device: str) -> _Fixed:
    first = record.parts[0]
    if record.form == "plain" and isinstance(first.grid, TrellisGrid) and first.symbols.size:
        return _Trellis(record, first.grid, steps, device)
    is_float = isinstance(first.grid, RawValues) and first.grid.dtype in ("fp16", "bf16", "fp32")
    if raw and record.form == "plain" and is_float and 0 < first.symbols.size <= SMALL:
        return _Raw(record, device)
    return _Fixed(record, device)


def _weights(tensors: Mapping[str, _Fixed]) -> dict[str, Tensor]:
    """What the grids decode to at present."""
    return {name: each.weights() for name, each in tensors.items()}


def _descend(
    tensors: Mapping[str, _Fixed],
    divergence: Divergence,
    batches: Iterator[Tensor],
    steps: Tune,
    progress: Callable[[int, float], None],
) -> None:
    """Adam with a linear decay; the exponents are rounded on the way, at STAGES."""
    named = [item for tensor in tensors.values() for item in tensor.parameters.items()]
    raw, factors = [p for kind, p in named if kind == "raw"], [p for kind, p in named if kind != "raw"]
    groups = [{"params": factors, "base": steps.lr}, {"params": raw, "base": RAW_SHARE * steps.lr}]
    optimizer = torch.optim.Adam([g for g in groups if g["params"]], lr=steps.lr, betas=(0.9, 0.99))
    stages = [math.ceil(part * steps.count) for part in STAGES]
    for step, ids in warmed(optimizer, steps.count, batches):
        if step in stages:
            _round(tensors, (stages.index(step) + 1) / len(stages))
        loss = divergence.kl(_weights(tensors), ids)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(step, float(loss.detach()))
    _round(tensors, 1.0)


def _round(tensors: Mapping[str, _Fixed], share: float) -> None:
    for tensor in tensors.values():
        for exponents in tensor.exponents:
            exponents.keep(share)
