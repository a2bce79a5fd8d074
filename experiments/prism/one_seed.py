"""All that is measured on the runs of one seed: values by name, and rows for tables and pictures.

Names are `run.quantity` and `run-less-other.mbpb`. Differences of runs are formed here, seed by seed: runs of one
seed see the same batches, and what that does to all of them cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.replication.packing import Bench, logged_bpb
from experiments.replication.plan import Study
from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgtrain.model.gpt import GPT
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.repartition import channel_permutation
from pgtrain.model.tensor_table import count_parameters
from pgtrain.training.run_log import log_path, read_log

from .probes import numbers, shift_error

TEXT_TOKENS = 16_384  # packed models are compared with themselves, token by token: less text is enough
PROBE_WINDOWS = 16
RECIPE = (
    "role:control=cast(dtype=fp16)|shuffle|brotli; *tok_emb*=gptq(bits=8,clip=20)|brotli; "
    "*=gptq(bits=6,clip=12.85)|brotli"
)
MODELS = ("standard", "albert", "naive", "wo", "wt", "adapt")
PACKED = (*MODELS, "standard-narrow", "standard-shallow", "albert-wide")
MBPB = (
    ("wo", "standard"), ("naive", "standard"), ("albert", "naive"), ("albert", "wo"), ("naive", "wo"),
    ("naive", "naive-skips"), ("naive", "naive-adapters"), ("naive", "naive-norms"), ("naive", "wo-bare"),
    ("wo-bare", "wo"), ("wt", "wo"), ("wt", "naive"), ("wt-channels", "wo"), ("wt-heads", "wo"),
    ("wt-consistent", "wo"), ("wt", "wt-consistent"), ("wt", "adapt"), ("adapt", "wo"), ("adapt-free", "wo"),
    ("adapt-free-high", "wo"), ("adapt", "adapt-free"), ("standard-narrow", "standard"),
    ("standard-shallow", "standard"),
)  # fmt: skip
RATIOS = (
    ("naive", "wo", "q_condition"), ("wt", "wo", "q_condition"), ("wo", "standard", "q_condition"),
    ("wt", "wo", "head_cosine"),
)  # fmt: skip
DIFFERENCES = (
    ("naive", "wo", "gap_mbpb"), ("albert", "wo", "first_last_cosine"), ("albert", "standard", "adjacent_cosine"),
    ("naive", "wo", "adjacent_cosine"), ("naive", "wo-bare", "adjacent_cosine"), ("adapt", "wo", "last_entropy"),
    ("wo", "adapt", "rare_over_common"),
)  # fmt: skip
EQUAL_BYTES = ("standard-narrow", "standard-shallow", "albert-wide", "naive", "wt", "adapt")


def measure_seed(trained: Trained, seed: int) -> Found:
    paths = {run: trained.path(run, seed) for run in trained.study.purposes}
    found = Found(seed)
    measured = {run: _measure_run(found, run, path) for run, path in paths.items()}
    for run, other in MBPB:
        found.values[f"{run}-less-{other}.mbpb"] = _mbpb(found, run, other, "bpb")
    for run in EQUAL_BYTES:
        found.values[f"{run}-less-wo.quantized_mbpb"] = _mbpb(found, run, "wo", "quantized_bpb")
        found.values[f"{run}.bytes_over_wo"] = found.values[f"{run}.bytes"] / found.values["wo.bytes"]
    _compare_courses(found, paths)
    _compare(found, {run: losses for run, losses in measured.items() if losses is not None})
    _count(found, trained.study)
    return found


def _measure_run(found: Found, run: str, path: Path) -> NDArray[np.float32] | None:
    """Of the six models: targets and their losses in nats. Shape: (2, n)."""
    bench = Bench(path, TEXT_TOKENS)
    evaluator = bench.text.evaluator()
    model = cast(GPT, evaluator.module(bench.tensors))
    tokens = torch.from_numpy(evaluator.tokens[:-1].astype(np.int64))
    ids = tokens[: PROBE_WINDOWS * evaluator.seq_len].view(PROBE_WINDOWS, -1)
    found.put(run, {"bpb": logged_bpb(bench.checkpoint)} | numbers(model, ids))
    found.add("losses", run=run, seed=found.seed, bpb=found.values[f"{run}.bpb"])
    if run in PACKED:
        point = bench.packed(RECIPE)
        gap = point.bpb - bench.fp32_bpb
        values = {"bytes": point.n_bytes, "gap_mbpb": 1000 * gap, "quantized_bpb": found.values[f"{run}.bpb"] + gap}
        found.put(run, values)
    if run not in MODELS:
        return None
    nats = evaluator.token_nats(model)
    targets = evaluator.tokens[1:].astype(np.int64)
    found.put(run, {"rare_over_common": rare_over_common(nats, targets, bench.text.calib_tokens)})
    return np.stack([targets, nats]).astype(np.float32)


def rare_over_common(nats: NDArray[np.float32], targets: NDArray[np.int64], training: NDArray[np.uint16]) -> float:
    """Mean loss of rare targets over that of common ones; common types make up half of the training text."""
    counts = np.bincount(training.astype(np.int64), minlength=int(targets.max()) + 1)
    order = np.argsort(-counts, kind="stable")
    common = order[: int(np.searchsorted(np.cumsum(counts[order]), counts.sum() / 2)) + 1]
    is_common = np.isin(targets, common)
    return float(nats[~is_common].mean() / nats[is_common].mean())


def types_won(losses: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Share of token types whose mean loss is below the other model's. Shape: (2, n): targets, nats."""
    targets = losses[0].astype(np.int64)
    counts = np.bincount(targets)
    sums = [np.bincount(targets, each[1]) for each in (losses, other)]
    seen = counts > 0
    return float((sums[0][seen] < sums[1][seen]).mean())


def _mbpb(found: Found, run: str, other: str, quantity: str) -> float:
    return 1000 * (found.values[f"{run}.{quantity}"] - found.values[f"{other}.{quantity}"])


def _compare(found: Found, losses: Mapping[str, NDArray[np.float32]]) -> None:
    values = found.values
    shared = [run for run in MODELS if run not in ("standard", "wo")]
    values["best-other-less-wo.mbpb"] = min(_mbpb(found, run, "wo", "bpb") for run in shared)
    values["wo.types_won_of_wt"] = types_won(losses["wo"], losses["wt"])
    values["wo.adapter_attn_over_mlp"] = values["wo.adapter_attn"] / values["wo.adapter_mlp"]
    for run in PACKED:
        values[f"{run}.gap_over_standard"] = values[f"{run}.gap_mbpb"] / values["standard.gap_mbpb"]
    for run, other, probe in RATIOS:
        values[f"{run}-over-{other}.{probe}"] = values[f"{run}.{probe}"] / values[f"{other}.{probe}"]
    for run, other, probe in DIFFERENCES:
        values[f"{run}-less-{other}.{probe}"] = values[f"{run}.{probe}"] - values[f"{other}.{probe}"]


def _compare_courses(found: Found, paths: Mapping[str, Path]) -> None:
    """How much less one run is above the other at 0.2 than at 0.8 of training: the points that #2090 has.

    Training losses over a fifth of the run around each, on batches that are the same for both runs.
    """
    evaluator = Bench(paths["wo"], TEXT_TOKENS).text.evaluator()
    tokens_per_byte = evaluator.n_tokens / evaluator.n_text_bytes
    for run, other in (("wo", "standard"), ("wt", "wo")):
        nats = _training_losses(paths[run]) - _training_losses(paths[other])
        n = len(nats) // 10
        early, late = float(nats[n : 3 * n].mean()), float(nats[7 * n : 9 * n].mean())
        growth = 1000 * (late - early) * tokens_per_byte / math.log(2.0)
        found.values[f"{run}-less-{other}.growth_mbpb"] = growth


def _training_losses(path: Path) -> NDArray[np.float64]:
    """Loss of every step, in nats per token."""
    return np.array([row.loss for _, row in read_log(log_path(path)) if row is not None])


def _count(found: Found, study: Study) -> None:
    """Parameters at full scale, and what is safe for rotary positions about a permutation."""
    full = {run: count_parameters(study.run(run, found.seed, "full").model) for run in study.purposes}
    for run in ("standard", "albert", "naive", "wo"):
        found.values[f"{run}.full_millions"] = full[run] / 1e6
    found.values["adapters.full_thousands"] = (full["wo"] - full["wo-bare"]) / 1e3
    generator = torch.Generator().manual_seed(found.seed)
    config = GPTConfig(model_dim=64, num_heads=1, num_kv_heads=1, rope_dims=16)
    paired = channel_permutation(config.head_dim, config.rotary_dims, generator)
    found.values["rope.paired_shift_error"] = shift_error(config, paired, found.seed)
    free = torch.randperm(config.head_dim, generator=generator)
    found.values["rope.free_shift_error"] = shift_error(config, free, found.seed)
    assert all(math.isfinite(value) for value in found.values.values())
