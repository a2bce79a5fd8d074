"""Tokens per second of a run against plain PyTorch loops of the same model, in one process, step by step.

    python -m tests.bench.train_speed [--preset demo] [--rounds 15] [--device cpu] [--processor-time]

A plain loop is what one writes without this package: the same GPT, random slices of the tokens, gradient clipping, no
average, no schedule, no log. Three of them, which differ in their optimizers:

    plain       torch.optim.Muon and torch.optim.AdamW with torch's defaults, grouped as in a run: the peer to beat
    plain_fp32  the same with a Muon written by hand in float32, for CPUs on which torch's bfloat16 one is emulated
    adamw       torch.optim.AdamW for everything: it orthogonalizes nothing, so this says what Muon costs

Every round times one step of each loop, in alternating order, so that whatever else a machine does slows all of
them; a figure is the median over rounds of the ratio within a round, with its quartiles. --processor-time counts this
process alone: for one thread (OMP_NUM_THREADS=1) of a machine that is busy with other work. Before anything is timed,
all models are checked to start from equal weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pgpack.text.builtin import builtin_corpus
from pgpack.text.corpus import write_text_folder
from pgpack.text.documents import Document
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import parameter_group
from pgtrain.presets import find_preset
from pgtrain.training.train import Trainer, _Progress
from pgtrain.training.train_config import TrainConfig

Step = Callable[[], float]
PEERS = ("plain", "plain_fp32", "adamw")
UNTIMED_ROUNDS = 2


class HandwrittenMuon(torch.optim.Optimizer):
    """Muon in float32, one matrix after the other. Source: Jordan 2024, kellerjordan.github.io/posts/muon."""

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].mul_(0.95).add_(parameter.grad, alpha=0.05)
                update = self.orthogonal(parameter.grad * 0.05 + momentum * 0.95)
                rows, columns = parameter.shape
                parameter.add_(update, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)

    @staticmethod
    def orthogonal(matrix: Tensor) -> Tensor:
        """Five quintic Newton-Schulz iterations."""
        x = matrix / (matrix.norm() + 1e-7)
        x = x.T if matrix.shape[0] > matrix.shape[1] else x
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        return x.T if matrix.shape[0] > matrix.shape[1] else x


def plain_optimizers(model: GPT, config: TrainConfig, peer: str) -> list[torch.optim.Optimizer]:
    """The optimizers of a plain loop, every parameter in the group that a run has it in."""
    parts: dict[str, list[nn.Parameter]] = {"matrix": [], "embedding": [], "head": [], "scalar": []}
    for name, parameter in model.named_parameters():
        parts[parameter_group(name)].append(parameter)
    rates = {"embedding": config.embed_lr, "head": config.head_lr, "scalar": config.scalar_lr}
    if peer == "adamw":
        rates["matrix"] = config.scalar_lr
    groups = [{"params": parts[part], "lr": lr} for part, lr in rates.items() if parts[part]]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, weight_decay=0.0)]
    if peer == "plain":
        muon = torch.optim.Muon(parts["matrix"], lr=config.matrix_lr, weight_decay=0.0, adjust_lr_fn="original")
        optimizers.append(muon)
    elif peer == "plain_fp32":
        optimizers.append(HandwrittenMuon(parts["matrix"], config.matrix_lr))
    return optimizers


def plain_loop(trainer: Trainer, peer: str) -> Step:
    """A loop over the tokens of `trainer` without this package's training code."""
    config, device, length = trainer.config, trainer.device, trainer.model_config.seq_len
    model = initialize_(GPT(trainer.model_config), config.seed).to(device)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[name]), name
    optimizers = plain_optimizers(model, config, peer)
    parts, rng = config.micro_batches, np.random.default_rng(0)

    def step() -> float:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for _ in range(parts):
            starts = rng.integers(len(trainer.train_tokens) - length - 1, size=config.batch_tokens // length // parts)
            block = np.stack([trainer.train_tokens[s : s + length + 1] for s in starts]).astype(np.int64)
            ids, targets = (torch.from_numpy(part).to(device) for part in (block[:, :-1], block[:, 1:]))
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = model(ids, targets) / parts
            loss.backward()
            value += float(loss.detach())
        if config.grad_clip:
            nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        for optimizer in optimizers:
            optimizer.step()
        return value

    return step


def our_loop(trainer: Trainer) -> Step:
    """The steps of a run, with everything that a run does in them but the log and the state file."""
    progress, began_s = _Progress(), time.monotonic()
    return lambda: trainer._step(progress, began_s).loss


def step_seconds(
    loops: dict[str, Step], rounds: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every timed step of each loop; step i of all loops was taken in round i."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(rounds + UNTIMED_ROUNDS):
        for name in sorted(loops, reverse=turn % 2 == 1):
            started = clock()
            loops[name]()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= UNTIMED_ROUNDS:
                times[name].append(clock() - started)
    return times


def bench_trainer(
    documents: Sequence[Document], model: GPTConfig, config: TrainConfig, folder: Path, device: str
) -> Trainer:
    """A run on `documents`, cut into as many pieces as the model has tokens; `folder` is filled with them."""
    write_text_folder(documents, folder, None, model.vocab_size, 0.1)
    return Trainer(model, config, TextFolder.open(folder), folder / "m.safetensors", device)


def measure(preset: str, rounds: int, device: str, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """The figures as one row."""
    chosen = find_preset(preset)
    with tempfile.TemporaryDirectory() as name:
        trainer = bench_trainer(builtin_corpus(), chosen.model, chosen.training, Path(name), device)
        loops = {peer: plain_loop(trainer, peer) for peer in PEERS} | {"ours": our_loop(trainer)}
        times = step_seconds(loops, rounds, trainer.device, clock)
    row: dict[str, Any] = {"preset": preset, "device": device, "threads": torch.get_num_threads()}
    row |= {"torch": torch.__version__, "rounds": rounds, "clock": clock.__name__}
    for loop, found in times.items():
        row[f"{loop}_tokens_per_s"] = round(trainer.config.batch_tokens / statistics.median(found), 1)
    for peer in PEERS:
        ratios = [plain / ours for plain, ours in zip(times[peer], times["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        row[f"against_{peer}"] = round(middle, 3)
        row[f"against_{peer}_quartiles"] = [round(low, 3), round(high, 3)]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processor-time", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.processor_time else time.perf_counter
    print(json.dumps(measure(given.preset, given.rounds, given.device, clock), indent=2))


if __name__ == "__main__":
    main()
