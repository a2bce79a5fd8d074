"""Stochastic weight averaging with the sum kept in bfloat16 (finding 8).

The control is trained once more with a listener that keeps its weights after every step of the warmdown. They are
then added up in three ways, over and over in turn until there are as many as the source had: what differs is
arithmetic alone, since the mean over whole turns is the same mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from experiments.replication.packing import Bench
from experiments.replication.rows import Found
from experiments.replication.training import Trained, checkpoints
from pgtrain.model.gpt import deployable
from pgtrain.training.run_log import StepRow
from pgtrain.training.schedule import lr_scale
from pgtrain.training.train import Trainer

COUNTS = (16, 64, 128, 256, 512)
SOURCE_COUNT = 256  # 12,507 steps, every 50th
BELOW = 0.4  # of the full rate, as in `TrainConfig.swa_below`
EVERY = {"tiny": 1, "full": 50}
TOKENS = 8192
Weights = Mapping[str, Tensor]


def measure(trained: Trained, seed: int) -> Found:
    """Loss of the averages by number of snapshots, and of the last weights."""
    snapshots = _snapshots(trained, seed)
    evaluator = Bench(trained.path("control", seed), TOKENS).piece.evaluator
    found = Found(seed)

    def loss(weights: Weights) -> float:
        return float(evaluator.evaluate({name: tensor.float().numpy() for name, tensor in weights.items()}).bpb)

    last = loss(snapshots[-1])
    for count, sums, running in accumulated(snapshots, COUNTS):
        exact = loss(exact_mean(snapshots, count))
        for way, name, weights in (("sum in bf16", "sum", sums), ("running mean in bf16", "running", running)):
            cost = loss(weights) - exact
            found.add("averaging", seed=seed, way=way, snapshots=count, cost=cost)
            if count == SOURCE_COUNT:
                found.values[f"swa.bf16_{name}_cost"] = cost
    found.values["swa.fp32_less_last"] = loss(exact_mean(snapshots, len(snapshots))) - last
    return found


def accumulated(snapshots: list[Weights], counts: tuple[int, ...]) -> Iterator[tuple[int, Weights, Weights]]:
    """(n, the sum of n snapshots / n, their running mean), both kept in bfloat16, for every n of `counts`."""
    halves = [{name: tensor.bfloat16() for name, tensor in snapshot.items()} for snapshot in snapshots]
    sums, means = ({name: torch.zeros_like(tensor) for name, tensor in halves[0].items()} for _ in range(2))
    for n in range(1, max(counts) + 1):
        for name, weight in halves[(n - 1) % len(halves)].items():
            sums[name].add_(weight)
            means[name].add_((weight - means[name]) / n)
        if n in counts:
            mean = {name: tensor.float() for name, tensor in means.items()}
            yield n, {name: tensor.float() / n for name, tensor in sums.items()}, mean


def exact_mean(snapshots: list[Weights], count: int) -> Weights:
    """The mean of `count` snapshots taken in turn, in float64."""
    times = [count // len(snapshots) + (i < count % len(snapshots)) for i in range(len(snapshots))]
    return {
        name: torch.stack([k * each[name].double() for k, each in zip(times, snapshots, strict=True)]).sum(0) / count
        for name in snapshots[0]
    }


def _snapshots(trained: Trained, seed: int) -> list[Weights]:
    run = trained.study.run("control", seed, trained.scale)
    path = checkpoints(trained.study.name, trained.scale) / f"averaging-{seed}.safetensors"
    trainer = Trainer(run.model, run.training, trained.text, path, trained.device)
    kept: list[Weights] = []

    def keep(row: StepRow) -> None:
        if lr_scale(run.training, row.step - 1) < BELOW and row.step % EVERY[trained.scale] == 0:
            weights = deployable(dict(trainer.model.named_parameters()))
            kept.append({name: tensor.detach().cpu().clone() for name, tensor in weights.items()})

    trainer.train(keep, restart=True)
    return kept
