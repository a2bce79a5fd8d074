"""Model FLOP utilisation of training steps: of the 36 M preset in bf16, where a GPU is at hand.

    python -m tests.bench.utilisation --device cuda --compile inductor            the peak of a known card
    python -m tests.bench.utilisation --device cuda --peak-tflops 165.2           of any card
    python -m tests.bench.utilisation --device cuda --preset prism-standard --batch-tokens 262144 --micro-batches 4

Times whole steps of a run: batch, forward and backward pass under bf16 autocast, clipping, Muon and AdamW, average.
tflop_per_s is `pgtrain.model.flop_count` (loops and shared blocks as often as they run, attention over what a
causal model
sees) times tokens per second; mfu divides it by the peak for dense bf16. mfu_palm counts attention over the whole
square, as appendix B of PaLM and reports after it do. Steps before the first timed one compile and warm up.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from pgpack.bench.text import check_device
from pgpack.text.builtin import builtin_corpus
from pgtrain.model.flop_count import flop_per_token
from pgtrain.model.tensor_table import count_parameters
from pgtrain.presets import find_preset
from pgtrain.training.train import Trainer
from tests.bench.train_speed import bench_trainer, our_loop, step_seconds

# TFLOP/s of dense bf16 with float32 sums, from NVIDIA's data sheets; the first name that the card's contains counts.
PEAKS = {
    "B200": 2250.0,
    "H200": 989.4,
    "H100 PCIe": 756.5,
    "H100 NVL": 835.5,
    "H100": 989.4,
    "A100": 312.0,
    "L40S": 362.1,
    "RTX 4090": 165.2,
}


def peak_tflops(card: str) -> float | None:
    """The peak of a card by its name, None for an unknown one."""
    return next((peak for name, peak in PEAKS.items() if name in card), None)


def utilisation(trainer: Trainer, steps: int, peak: float | None = None) -> dict[str, Any]:
    """Tokens per second, TFLOP/s and their share of the peak (TFLOP/s; None: that of the card, if it is known)."""
    model, training, on_gpu = trainer.model_config, trainer.config, trainer.device.type == "cuda"
    times = step_seconds({"ours": our_loop(trainer)}, steps, trainer.device)["ours"]
    card = torch.cuda.get_device_name(trainer.device) if on_gpu else str(trainer.device)
    flop, per_second = flop_per_token(model), training.batch_tokens / statistics.median(times)
    row: dict[str, Any] = {"card": card, "torch": torch.__version__, "compile": training.compile_backend}
    row |= {"parameters": count_parameters(model), "tokens_per_step": training.batch_tokens}
    row |= {"micro_batches": training.micro_batches, "steps": steps, "tokens_per_s": round(per_second, 1)}
    row |= {"mflop_per_token": round(flop / 1e6, 3), "tflop_per_s": float(f"{flop * per_second / 1e12:.4g}")}
    if on_gpu:
        row["memory_gib"] = round(torch.cuda.max_memory_allocated(trainer.device) / 2**30, 2)
    peak = peak_tflops(card) if peak is None else peak
    if peak:
        whole_square = flop + 6 * model.virtual_layers * model.model_dim * model.seq_len
        row |= {"peak_tflops": peak, "mfu": float(f"{flop * per_second / peak / 1e12:.4g}")}
        row["mfu_palm"] = float(f"{whole_square * per_second / peak / 1e12:.4g}")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="lanes")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", default="", help="backend of torch.compile, inductor as a rule")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 peak of a card that is not in the table")
    parser.add_argument("--batch-tokens", type=int, help="tokens per step; the preset's own as a rule")
    parser.add_argument("--micro-batches", type=int, help="parts of a step that are computed one after the other")
    given = parser.parse_args()
    check_device(given.device)
    chosen = find_preset(given.preset)
    changes = {"batch_tokens": given.batch_tokens, "micro_batches": given.micro_batches}
    training = dataclasses.replace(
        chosen.training,
        loops_from=0.0,
        qat_bits=0,
        compile_backend=given.compile,
        **{name: value for name, value in changes.items() if value is not None},
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = bench_trainer(builtin_corpus(), chosen.model, training, Path(folder), given.device)
        row = utilisation(trainer, given.steps, given.peak_tflops)
    print(json.dumps({"preset": given.preset, **row}, indent=2))


if __name__ == "__main__":
    main()
