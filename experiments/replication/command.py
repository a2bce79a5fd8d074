"""The command line of a study: `python -m experiments.<study>.run [--scale tiny|full] ...`.

    study.toml -> train what is missing -> measure -> results/ -> claims.toml -> README tables

Owns the order of the steps; a study gives the middle one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from pgpack.errors import PgpackError
from pgpack.text.text_folder import TextFolder
from pgtrain.model.tensor_table import count_parameters

from .claims import record
from .measures import Measures
from .pages import publish
from .plan import SCALES, Study
from .training import checkpoints, text_folder, train_runs


@dataclass(frozen=True)
class Trained:
    """What a study measures: its checkpoints, the text, and where results go."""

    study: Study
    scale: str
    paths: Mapping[tuple[str, int], Path]
    text: TextFolder
    results: Path
    device: str
    jobs: int = 1

    def path(self, run: str, seed: int) -> Path:
        """Checkpoint of a run."""
        return self.paths[run, seed]

    def snapshots(self, run: str, seed: int) -> dict[int, Path]:
        """Step -> the weights after it, for the steps that the sheet names."""
        planned = self.study.run(run, seed, self.scale)
        return {step: self.path(run, seed).with_name(planned.snapshot_name(step)) for step in planned.snapshots}


Measure = Callable[[Trained], Measures]


def study_command(folder: Path, measure: Measure) -> click.Command:
    """The command of the study in `folder`. `measure` reads checkpoints, writes rows and pictures into results/."""

    @click.command(help=f"Train and measure the runs of {folder.name}/study.toml; what is there is not done again.")
    @click.option("--scale", type=click.Choice(SCALES), default="tiny", show_default=True, help="Size of the runs.")
    @click.option("--data", type=click.Path(path_type=Path), help="Folder of shards; without: the built-in corpus.")
    @click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
    @click.option("--jobs", default=2, show_default=True, help="Processes at a time.")
    @click.option("--dry-run", is_flag=True, help="Print the runs and stop.")
    def command(scale: str, data: Path | None, device: str, jobs: int, dry_run: bool) -> None:
        try:
            _reproduce(Study.load(folder), measure, scale, data, device, jobs, dry_run)
        except PgpackError as error:
            raise click.ClickException(str(error)) from error

    return command


def _reproduce(
    study: Study, measure: Measure, scale: str, data: Path | None, device: str, jobs: int, dry_run: bool
) -> None:
    runs = study.runs(scale)
    if dry_run:
        for run in runs:
            click.echo(
                f"{run.file_name:40} {count_parameters(run.model):>12,} parameters {run.training.steps:>7} steps"
            )
        return
    started = time.monotonic()
    text = TextFolder.open(data) if data else text_folder()
    paths = train_runs(runs, text, checkpoints(study.name, scale), jobs, device)
    trained_s = time.monotonic() - started
    results = study.folder / "results" if scale == "tiny" else checkpoints(study.name, scale) / "results"
    results.mkdir(parents=True, exist_ok=True)
    by_name = {(run.name, run.seed): path for run, path in zip(runs, paths, strict=True)}
    measures = measure(Trained(study, scale, by_name, text, results, device, jobs))
    measures.scale = scale
    measures.save(results / "measures.json")
    if scale == "tiny":
        record(study.folder / "claims.toml", measures)
        publish(study.folder)
    summary = {"trained_s": round(trained_s), "whole_s": round(time.monotonic() - started)}
    click.echo(json.dumps({"study": study.name, "scale": scale, "results": str(results), **summary}))
