"""A checkpoint of a study, packed and measured: recipe -> real bytes -> decoded weights -> loss.

Owns `Bench`: one checkpoint with its text; Hessians are observed once, equal weights are evaluated once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgpack.bench.options import BenchOptions
from pgpack.bench.text import Text
from pgpack.bench.training import Training
from pgpack.bench.workpiece import Workpiece
from pgpack.cache.store import Cache, Memory
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.loss.evaluator import Tensors
from pgpack.measure import Measurer
from pgpack.pack import Artifact
from pgpack.recipe.recipe import parse_recipe

CACHE_BYTES = 1 << 28
CALIBRATION = "@calib=tokens(count=8192)"
NO_TEXT = BenchOptions()


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
    """A checkpoint on held-out text. Calibration text is the training text, which it does not overlap.

    `text`: text and model of a checkpoint that does not name its own.
    """

    def __init__(
        self, path: Path, max_tokens: int = 8192, keep_in: Path | None = None, text: BenchOptions = NO_TEXT
    ) -> None:
        self.checkpoint: Checkpoint = load_checkpoint(path)
        self.piece = Workpiece(path, self.checkpoint, replace(text, max_tokens=max_tokens), keep_in=keep_in)
        self.measurer = Measurer(
            self.checkpoint, self.piece.evaluator, self.piece.calibration, fresh_cache(), Training(self.piece)
        )

    @property
    def text(self) -> Text:
        return self.piece.text

    @cached_property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The checkpoint's weights by name."""
        return dict(self.checkpoint.items())

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


def fresh_cache() -> Cache:
    """Memory for what the recipes of one checkpoint share."""
    return Cache(memory=Memory(CACHE_BYTES))


def relative_error(original: Tensors, decoded: Tensors, names: Iterable[str]) -> float:
    """Squared error over squared norm, all of `names` together."""
    error = norm = 0.0
    for name in names:
        error += float(np.square(decoded[name] - original[name], dtype=np.float64).sum())
        norm += float(np.square(original[name], dtype=np.float64).sum())
    return error / norm
