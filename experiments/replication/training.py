"""Trains the runs of a study, two at a time on one thread each, and only those whose checkpoint is not there.

Owns the folder `runs/experiments/<study>/<scale>`. A run that Ctrl-C or a kill stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import call
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from pgpack.errors import DataError
from pgpack.text.builtin import builtin_corpus
from pgpack.text.corpus import write_text_folder
from pgpack.text.text_folder import TextFolder
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.run_log import StepRow
from pgtrain.training.train import Trainer
from pgtrain.training.train_config import TrainConfig

from .pages import ROOT
from .plan import Run, Study

Result = TypeVar("Result")


@dataclass(frozen=True)
class Trained:
    """What a study measures: its checkpoints, the text, and where results go."""

    study: Study
    scale: str
    paths: Mapping[tuple[str, int], Path]
    text: TextFolder
    results: Path
    device: str = "cpu"
    jobs: int = 1

    def path(self, run: str, seed: int) -> Path:
        """Checkpoint of a run."""
        return self.paths[run, seed]

    def snapshots(self, run: str, seed: int) -> dict[int, Path]:
        """Step -> the weights after it, for the steps that the sheet names."""
        planned = self.study.run(run, seed, self.scale)
        return {step: self.path(run, seed).with_name(planned.snapshot_name(step)) for step in planned.snapshots}


def text_folder(folder: Path = ROOT / "runs" / "experiments" / "text") -> TextFolder:
    """The built-in corpus with a tokenizer of 1,024 pieces, written on first use."""
    if not (folder / "corpus.json").is_file():
        write_text_folder(builtin_corpus(), folder, None, 1024, 0.08)
    return TextFolder.open(folder)


def checkpoints(study: str, scale: str) -> Path:
    """Where the checkpoints of a study lie."""
    return ROOT / "runs" / "experiments" / study / scale


def train_runs(runs: Sequence[Run], text: TextFolder, out: Path, jobs: int = 2, device: str = "cpu") -> list[Path]:
    """Checkpoint of every run, in their order; what is there already with equal settings is left alone.

    Raises: DataError when a run fails or was interrupted: run the command again and it goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / run.file_name for run in runs]
    todo = [(run, path) for run, path in zip(runs, paths, strict=True) if not _is_trained(run, path)]
    in_processes([partial(_train, run, text, path, device) for run, path in todo], jobs, f"training in {out.name}")
    return paths


def in_processes(tasks: Sequence[Callable[[], Result]], jobs: int, name: str) -> list[Result]:
    """What every task gives, in their order; each in a process of its own, `jobs` at a time; one job runs here.

    A bar called `name` says how far it is. What has not begun is left out when a task fails.
    """
    if jobs == 1 or not tasks:
        one_thread()
        return [task() for task in tasks]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context, initializer=one_thread) as pool:
        try:
            return list(tqdm(pool.map(call, tasks), total=len(tasks), desc=name, unit="task"))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def one_thread() -> None:
    """What every process of a study does first: the cores are shared by processes, not by threads."""
    import torch

    torch.set_num_threads(1)


def _train(run: Run, text: TextFolder, path: Path, device: str) -> None:
    path.unlink(missing_ok=True)
    trainer = Trainer(run.model, run.training, text, path, device)

    def keep(row: StepRow) -> None:
        if row.step in run.snapshots:
            trainer.write_snapshot(path.with_name(run.snapshot_name(row.step)), row.step)

    if not trainer.train(keep).finished:
        raise DataError(f"{run.name}, seed {run.seed}, was interrupted; the same command continues it")


def _is_trained(run: Run, path: Path) -> bool:
    """Whether the file is of these settings. The text is not compared: it is the same corpus by construction."""
    if not all(file.is_file() for file in (path, *(path.with_name(run.snapshot_name(s)) for s in run.snapshots))):
        return False
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    model = json.loads(metadata.get("model_config", "{}"))
    training = json.loads(metadata.get("training", "{}")).get("config", {})
    # A file leaves out options that are younger than it.
    same_model: bool = _as_read(GPTConfig()) | model == _as_read(run.model)
    return same_model and bool(_as_read(TrainConfig()) | training == _as_read(run.training))


def _as_read(config: GPTConfig | TrainConfig) -> dict[str, Any]:
    """The fields as JSON gives them back."""
    read: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return read
