"""A study as it is written down: `study.toml` -> the runs of a scale.

    seeds = [1, 2, 3]

    [tiny]                        # on top of every run's preset at this scale; [full] likewise
    model = { model_dim = 64 }
    training = { steps = 100 }
    snapshots = [10, 100]         # steps after which the weights are kept beside the checkpoint, not averaged

    [runs.narrow]                 # one model, trained once per seed
    purpose = "table of half the width"
    preset = "lanes"              # of `pgtrain ls`: sizes, options and rates at full scale
    model = { embed_dim = 256 }   # at both scales; `training` likewise
    tiny = { model = { embed_dim = 32 } }
    full = { training = { steps = 4000 } }

The later wins: preset, [scale], the run, the run at that scale. At tiny scale the rates are the demo's.
Owns `Study` and `Run`. Refuses torch: a plan prints at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgpack.errors import DataError
from pgtrain.model.model_config import GPTConfig
from pgtrain.presets import find_preset
from pgtrain.training.train_config import TrainConfig

SCALES = ("tiny", "full")
FIELDS = {"purpose", "preset", "model", "training", "snapshots", *SCALES}
PARTS = {"model", "training", "snapshots"}


@dataclass(frozen=True)
class Run:
    """One training: a model, how it is trained, and its name in the study."""

    name: str
    seed: int
    model: GPTConfig
    training: TrainConfig
    snapshots: tuple[int, ...] = ()

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.seed}.safetensors"

    def snapshot_name(self, step: int) -> str:
        """File of the weights after `step`."""
        return f"{self.name}-{self.seed}.step-{step}.safetensors"


@dataclass(frozen=True)
class Study:
    """`study.toml` of a folder. `sheet` is the file as it stands."""

    folder: Path
    sheet: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Raises: DataError when the file is missing or a run has a field that does not exist."""
        path = folder / "study.toml"
        if not path.is_file():
            raise DataError(f"{path} does not exist; a study's folder holds study.toml")
        sheet = tomllib.loads(path.read_text(encoding="utf-8"))
        for name, run in sheet.get("runs", {}).items():
            unknown = set(run) - FIELDS | {part for scale in SCALES for part in set(run.get(scale, {})) - PARTS}
            if unknown or "preset" not in run or "purpose" not in run:
                raise DataError(f"{path}: run {name} needs preset and purpose, and may not have {sorted(unknown)}")
        return cls(folder, sheet)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.sheet["seeds"])

    @property
    def purposes(self) -> dict[str, str]:
        """Run -> what it is for, in the order of the file."""
        return {name: run["purpose"] for name, run in self.sheet.get("runs", {}).items()}

    def runs(self, scale: str) -> tuple[Run, ...]:
        """Every run once per seed, seed by seed, so that a stopped study has whole seeds."""
        return tuple(self.run(name, seed, scale) for seed in self.seeds for name in self.purposes)

    def run(self, name: str, seed: int, scale: str) -> Run:
        """Raises: DataError for an unknown scale, run or preset, or values that make no model."""
        if scale not in SCALES or name not in self.purposes:
            raise DataError(f"{self.name} has no run {name!r} at scale {scale!r}")
        written = self.sheet["runs"][name]
        preset = find_preset(written["preset"])
        layers = (self.sheet.get(scale, {}), written, written.get(scale, {}))
        training = preset.training
        if scale == "tiny":
            training = replace(find_preset("demo").training, loops_from=training.loops_from)
        try:
            model = replace(preset.model, **_merged(layers, "model"))
            training = replace(training, **_merged(layers, "training") | {"seed": seed})
            snapshots = next((layer["snapshots"] for layer in reversed(layers) if "snapshots" in layer), ())
            return Run(name, seed, model, training, tuple(snapshots))
        except TypeError as error:
            raise DataError(f"{self.folder / 'study.toml'}: run {name}: {error}") from error


def _merged(layers: tuple[Mapping[str, Any], ...], part: str) -> dict[str, Any]:
    return {key: value for layer in layers for key, value in layer.get(part, {}).items()}
