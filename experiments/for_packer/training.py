"""Runs that share their first part: one trunk, whose state every arm goes on from with its own last part."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgpack.checkpoint.files import read_file
from pgpack.recipe.dials import trellis_recipe
from pgpack.text.text_folder import TextFolder
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.presets import PRESETS, Preset
from pgtrain.training.for_packer import ForPacker
from pgtrain.training.resume import state_path
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig

LATE = 0.6  # share of a run after which arms part
STATES = 8  # of the trellis that the arms are packed with


class NoiseForPacker(ForPacker):
    """The peer of dithered training: uniform noise of the trellis's variance at the engine's steps, and no rate.

    Source: Balle et al. 2017, arXiv:1611.01704.
    """

    def prepare_(self, named: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> None:
        super().prepare_(named, averaged)
        generator = torch.Generator().manual_seed(self.step)
        self.noise: dict[str, Tensor] = {}
        for name, matrix in self.outlook.matrices.items():
            rows, columns = (torch.from_numpy(part) for part in matrix.steps(self.outlook.dial))
            noise = torch.rand(named[name].shape, generator=generator) * 2 - 1
            self.noise[name] = (noise * math.sqrt(0.75) * torch.outer(rows, columns)).to(named[name])
            with torch.no_grad():
                named[name].add_(self.noise[name])

    @torch.no_grad()
    def move_(self, named: Mapping[str, Tensor], scale: float) -> None:
        for name, noise in self.noise.items():
            named[name].sub_(noise)


@dataclass(frozen=True)
class Arm:
    """A way to spend the last part of a run. `dial`: the step it is trained for, None where it is for none."""

    name: str
    changes: tuple[tuple[str, object], ...] = ()
    dial: float | None = None
    noise: bool = False


@dataclass(frozen=True)
class Bench:
    """`preset` with `steps` of `batch_tokens` on the text in `folder`; checkpoints are kept in `work`.

    `packer_tokens`: of each calibration on the way.
    """

    preset: Preset
    folder: TextFolder
    work: Path
    steps: int
    batch_tokens: int
    seed: int
    packer_tokens: int = 4096
    device: str = "cpu"

    @classmethod
    def of(cls, folder: Path, work: Path, steps: int, batch_tokens: int, dim: int, seed: int) -> Bench:
        """The demo's model, `dim` wide."""
        demo = PRESETS["demo"]
        preset = dataclasses.replace(demo, model=dataclasses.replace(demo.model, model_dim=dim))
        return cls(preset, TextFolder.open(folder), work, steps, batch_tokens, seed)

    def config(self, arm: Arm) -> TrainConfig:
        given: dict[str, Any] = dict(arm.changes)
        if arm.dial is not None:
            given["packer"] = str(trellis_recipe(arm.dial, STATES, tensor_shapes(self.preset.model)))
        warmdown = self.steps * 3 // 5
        return dataclasses.replace(
            self.preset.training, steps=self.steps, batch_tokens=self.batch_tokens, warmdown_steps=warmdown,
            seed=self.seed, packer_from=LATE, qat_from=LATE, packer_tokens=self.packer_tokens, **given,
        )  # fmt: skip

    def trainer(self, arm: Arm, name: str) -> Trainer:
        return Trainer(
            self.preset.model, self.config(arm), self.folder, self.work / f"{name}.safetensors", self.device
        )

    def trunk(self) -> Trainer:
        """The first part, which is trained once for all arms; its state file is what they go on from."""
        trunk = self.trainer(Arm("trunk"), f"trunk-{self.seed}")
        if self._n_trained(state_path(trunk.out)) < self.parts_at:
            trunk.train(lambda row: signal.raise_signal(signal.SIGINT) if row.step == self.parts_at else None)
        return trunk

    def _n_trained(self, state: Path) -> int:
        return int(json.loads(read_file(state).metadata["progress"])["step"]) if state.exists() else 0

    @property
    def parts_at(self) -> int:
        """Steps after which arms part."""
        return round(self.steps * LATE)

    def train(self, arm: Arm) -> tuple[Path, float]:
        """(checkpoint, processor seconds of its last part)."""
        trunk = self.trunk()
        dial = "" if arm.dial is None else f"-{arm.dial:g}"
        trainer = self.trainer(arm, f"{arm.name.replace(' ', '-')}{dial}-{self.seed}")
        if arm.noise and trainer.packer is not None:
            trainer.packer.__class__ = NoiseForPacker
        trainer.state.take_over(state_path(trunk.out))
        began = time.process_time()
        trainer.train(lambda row: None)
        return trainer.out, time.process_time() - began
