"""How another process opens the bench of a command: by paths on a disk that both see, or by files sent to it."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgpack.cache.opening import open_cache
from pgpack.cache.options import CacheOptions
from pgpack.checkpoint.adapter import open_merged
from pgpack.checkpoint.files import parts_of, require_file
from pgpack.measure import Measurer
from pgpack.models.evidence import FOUND_KEY
from pgpack.sweep.executors.jobs import Setting

from .benches import Benches
from .options import BenchOptions
from .sources import absolute, files_of, tokenizer_files
from .workpiece import Workpiece

PYTHON = ".py"


@dataclass(frozen=True)
class Blueprint:
    """Opens the same benches anywhere. Nothing is read before it is called, and pickling it costs nothing.

    `keep_in`: the study's folder with its calibration; `cache`: where this process keeps results; `found`: of each
    checkpoint whose model nobody named, how it was found here, so that no other process looks for it again.
    """

    checkpoints: tuple[Path, ...]
    text: BenchOptions
    keep_in: Path
    cache: CacheOptions
    found: tuple[str, ...] = ()

    def __call__(self, setting: Setting) -> Measurer:
        """The measurer of `setting`. Raises: whatever opening the files does."""
        return self.bench(setting.checkpoint).trial_measurer(setting.text_share)

    def bench(self, number: int) -> Workpiece:
        """The bench of one checkpoint."""
        path = self.checkpoints[number]
        checkpoint = open_merged(path, self.text.base, self.text.key)
        if self.found and self.found[number]:
            metadata = {**checkpoint.metadata, FOUND_KEY: self.found[number]}
            checkpoint = dataclasses.replace(checkpoint, metadata=metadata)
        return Workpiece(path, checkpoint, self.text, keep_in=self.keep_in, cache=open_cache(self.cache))

    @property
    def files(self) -> dict[str, Path]:
        """Everything that is read, under the names that `moved` looks for."""

        parts = [(number, part) for number, path in enumerate(self.checkpoints) for part in parts_of(path)]
        found = {f"checkpoint-{number}/{part.name}": part for number, part in parts}
        if self.text.base is not None:
            found |= {f"base/{part.name}": part for part in parts_of(Path(self.text.base))}
        first = open_merged(self.checkpoints[0], self.text.base, self.text.key)
        for name, paths in files_of(self.checkpoints[0], first.metadata, self.text).items():
            found |= {f"{name}/{number:05d}-{path.name}": path for number, path in enumerate(paths)}
        for path in tokenizer_files(self.checkpoints[0], first.metadata, self.text):
            found[f"tokenizer/{path.name}"] = path
        for name, file in {"calibration": self.text.calibration, "model": self._model_file}.items():
            if file is not None:
                found[f"{name}/{Path(file).name}"] = Path(file)
        kept = sorted(self.keep_in.glob("calibration-*.safetensors"))
        return found | {f"study/{path.name}": path for path in kept}

    def moved(self, folder: Path) -> Blueprint:
        """The same bench with its files below `folder`; results are kept where that machine keeps its own."""
        places = {place.name: sorted(place.iterdir()) for place in folder.iterdir()}
        flags: dict[str, Any] = {name: str(folder / name / "*") for name in ("val", "calib") if name in places}
        flags |= {name: str(places[name][0]) for name in ("calibration", "model") if name in places}
        if "base" in places:
            flags["base"] = str(folder / "base")
        if places.keys() & {"text", "val"}:  # a folder of shards was sent as its two sides
            flags["text"] = (str(folder / "text"),) if "text" in places else ()
        if "tokenizer" in places:
            alone = len(places["tokenizer"]) == 1
            flags["tokenizer"] = str(places["tokenizer"][0] if alone else folder / "tokenizer")
        if "model" in flags and self.text.model is not None:
            flags["model"] += self.text.model.partition(PYTHON)[2]
        checkpoints = tuple(folder / f"checkpoint-{n}" / path.name for n, path in enumerate(self.checkpoints))
        study = folder / "study"
        study.mkdir(exist_ok=True)
        text = dataclasses.replace(self.text, **flags)
        return Blueprint(checkpoints, text, study, dataclasses.replace(self.cache, folder=None), self.found)

    @property
    def _model_file(self) -> str | None:
        model = self.text.model
        return None if model is None or PYTHON not in model else model.partition(PYTHON)[0] + PYTHON


def blueprint_of(benches: Benches, out: Path, cache: CacheOptions) -> Blueprint:
    """The blueprint of `benches` with paths that do not depend on the working directory."""
    flags = benches.first.options
    given = {name: getattr(flags, name) for name in ("val", "calib", "tokenizer", "calibration", "base")}
    paths: dict[str, Any] = {name: absolute(value) for name, value in given.items() if value is not None}
    paths["text"] = tuple(map(absolute, flags.text))
    if flags.model is not None and PYTHON in flags.model:
        paths["model"] = os.path.abspath(flags.model)
    folder = None if cache.folder is None else cache.folder.absolute()
    return Blueprint(
        tuple(require_file(bench.path).absolute() for bench in benches.all),
        dataclasses.replace(flags, **paths),
        out.absolute(),
        dataclasses.replace(cache, folder=folder),
        tuple(bench.text.model.evidence if "text" in vars(bench) else "" for bench in benches.all),
    )
