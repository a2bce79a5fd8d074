"""Tokens per second of a run against a plain PyTorch loop of the same model, both in one process, step by step.

    python -m tests.bench.train_speed [--preset demo] [--steps 12] [--device cpu]

The plain loop is what one writes without this package: the same GPT, torch.optim.Muon and torch.optim.AdamW, random
slices of the tokens, gradient clipping, no average, no log. Steps alternate, so that a busy machine slows both; the
figure is the ratio of medians. A second peer trains everything with AdamW, for scale. Before anything is timed, both
models are checked to start from equal weights. On a GPU, model FLOP utilisation is printed for the
peak of --peak-tflops.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pgtrain.corpus import builtin_corpus
from pgtrain.gpt import GPT, initialize_
from pgtrain.presets import find_preset
from pgtrain.run_log import Clock
from pgtrain.tensor_table import count_parameters, parameter_group
from pgtrain.text_folder import TextFolder, write_text_folder
from pgtrain.train import Trainer, _Progress
from pgtrain.train_config import TrainConfig

Step = Callable[[], float]


def plain_loop(trainer: Trainer, muon: bool) -> Step:
    """A loop over the tokens of `trainer` with torch's own optimizers."""
    config, device, length = trainer.config, trainer.device, trainer.model_config.seq_len
    model = initialize_(GPT(trainer.model_config), config.seed).to(device)
    matrices = [p for name, p in model.named_parameters() if muon and parameter_group(name) == "matrix"]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=config.scalar_lr, weight_decay=0.0)]
    if muon:
        optimizers.append(torch.optim.Muon(matrices, lr=config.matrix_lr, weight_decay=0.0, adjust_lr_fn="original"))
    rng = np.random.default_rng(0)

    def step() -> float:
        starts = rng.integers(len(trainer.train_tokens) - length - 1, size=config.batch_tokens // length)
        block = np.stack([trainer.train_tokens[s : s + length + 1] for s in starts]).astype(np.int64)
        ids, targets = (torch.from_numpy(part).to(device) for part in (block[:, :-1], block[:, 1:]))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(ids, targets)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or 1e9)
        for optimizer in optimizers:
            optimizer.step()
        return float(loss.detach())

    return step


def our_loop(trainer: Trainer) -> Step:
    """The steps of a run, with everything that a run does in them but the log and the state file."""
    progress, clock = _Progress(), Clock(0.0)
    return lambda: trainer._step(progress, clock).loss


def seconds_per_step(loops: dict[str, Step], steps: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each loop; the loops take turns and the first two rounds do not count."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(steps + 2):
        for name, step in loops.items():
            started = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def flop_per_token(trainer: Trainer) -> float:
    """6 per weight that multiplies a token, and 12 layers x width x length for attention (PaLM, appendix B)."""
    model = trainer.model_config
    return 6 * count_parameters(model) + 12 * model.virtual_layers * model.model_dim * model.seq_len


def measure(preset: str, steps: int, device: str, config: TrainConfig | None = None) -> dict[str, float | str]:
    """The figures as one row."""
    chosen = find_preset(preset)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text_folder(builtin_corpus(), folder, None, 1024, 0.1)
        model = dataclasses.replace(chosen.model, vocab_size=1024)
        trainer = Trainer(model, config or chosen.training, TextFolder.open(folder), folder / "m.safetensors", device)
        start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        plain = initialize_(GPT(model), trainer.config.seed)
        assert all(torch.equal(p.cpu(), start[name].cpu()) for name, p in plain.named_parameters())
        loops = {"ours": our_loop(trainer), "plain": plain_loop(trainer, True), "adamw": plain_loop(trainer, False)}
        seconds = seconds_per_step(loops, steps, trainer.device)
        tokens = trainer.config.batch_tokens
        row: dict[str, float | str] = {"preset": preset, "device": device, "threads": torch.get_num_threads()}
        row |= {f"{name}_tokens_per_s": round(tokens / value, 1) for name, value in seconds.items()}
        row["against_plain"] = round(seconds["plain"] / seconds["ours"], 3)
        row["against_adamw"] = round(seconds["adamw"] / seconds["ours"], 3)
        row["tflop_per_s"] = round(flop_per_token(trainer) * tokens / seconds["ours"] / 1e12, 3)
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="the device's peak, 989 for bf16 on an H100")
    arguments = parser.parse_args()
    row = measure(arguments.preset, arguments.steps, arguments.device)
    if arguments.peak_tflops:
        row["mfu"] = round(float(row["tflop_per_s"]) / arguments.peak_tflops, 4)
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
