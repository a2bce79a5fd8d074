"""A checkpoint of a study, packed and measured: recipe -> real bytes -> decoded weights -> loss.

Owns `Bench`: one checkpoint with its text; Hessians are observed once, equal weights are evaluated once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pgpack.bench.options import BenchOptions
from pgpack.bench.workpiece import Workpiece as TextBench
from pgpack.cache.store import Cache, Memory
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.measure import Measurer
from pgpack.pack import Artifact
from pgpack.recipe.recipe import parse_recipe

CACHE_BYTES = 1 << 28
CALIBRATION = "@calib=tokens(count=8192)"


@dataclass(frozen=True)
class Packed:
    """One point. Units: bytes of the artifact; bits per byte; KL to the checkpoint in nats per token."""

    n_bytes: int
    bpb: float
    kl: float
    artifact: Artifact


def logged_bpb(checkpoint: Checkpoint) -> float:
    """Bits per byte on all of the validation text, as the training run wrote it into its checkpoint."""
    return float(json.loads(checkpoint.metadata["training"])["val"]["bpb"])


class Bench:
    """A pgtrain checkpoint on held-out text. Calibration text is the training text, which it does not overlap."""

    def __init__(self, path: Path, max_tokens: int = 8192) -> None:
        self.checkpoint: Checkpoint = load_checkpoint(path)
        self.text = TextBench(path, self.checkpoint, BenchOptions(max_tokens=max_tokens))
        self.measurer = Measurer(
            self.checkpoint,
            self.text.evaluator,
            self.text.calibration,
            Cache(memory=Memory(CACHE_BYTES)),
            self.text,
        )

    @cached_property
    def fp32_bpb(self) -> float:
        return self.measurer.fp32_loss().bpb

    def packed(self, recipe: str) -> Packed:
        """The point of a recipe; rules that match nothing in this checkpoint are dropped.

        A recipe with Hessians is calibrated on 8,192 tokens unless it says otherwise.
        """
        text = recipe if "@calib" in recipe else f"{recipe}; {CALIBRATION}"
        value = parse_recipe(text).without_idle_rules(self.checkpoint.stored_shapes)
        artifact = self.measurer.pack(value)
        loss = self.measurer.evaluate(artifact)
        assert loss is not None
        assert loss.kl is not None
        return Packed(artifact.n_bytes, loss.bpb, loss.kl, artifact)
