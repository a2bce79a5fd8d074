"""Depth recurrence with more passes at evaluation than in training (finding 13; the promise is Huginn's).

`shallow` has the same three blocks and was never trained to repeat them: running its stack again is the control.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from experiments.replication.packing import Bench
from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgpack.loss.bpb import TextEvaluator
from pgpack.loss.sliding import EvaluationWay
from pgtrain.model.gpt import GPT

PASSES = (1, 2, 3, 4, 6, 9)
TOKENS = 4096
MODELS = {"loop": "flat", "loop_skips": "U-Net skips", "shallow": "never looped"}


def measure(trained: Trained, seed: int) -> Found:
    """Loss of the three models at every number of passes."""
    found = Found(seed)
    for run, name in MODELS.items():
        bench = Bench(trained.path(run, seed), TOKENS)
        tensors = bench.tensors
        losses = {}
        for passes in PASSES:
            losses[passes] = _evaluator(bench, run, passes).evaluate(tensors).bpb
            found.add("loops", seed=seed, model=name, passes=passes, bpb=losses[passes])
        found.values[f"{run}.bpb_at_6"] = losses[6]
        trained_passes = 1 if run == "shallow" else 3
        found.values[f"{run}.rise_at_6"] = losses[6] - losses[trained_passes]
        found.values[f"{run}.fall_to_1"] = losses[1] - losses[trained_passes]
    return found


def _evaluator(bench: Bench, run: str, passes: int) -> TextEvaluator:
    text = bench.text
    if run != "shallow":
        return text.evaluator(way=EvaluationWay(loops=passes - 1))

    def repeated(tensors: Mapping[str, torch.Tensor]) -> GPT:
        model = text.build(tensors)
        assert isinstance(model, GPT)
        model.plan = model.plan * passes
        return model

    evaluator = text.evaluator()
    evaluator.build = repeated
    return evaluator
