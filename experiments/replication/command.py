"""The command line of a study: `python -m experiments.<study>.run [--scale tiny|full] ...`.

    study.toml -> train what is missing -> measure every seed -> results/ -> claims.toml -> README tables

Owns the order of the steps; a study gives the parts that measure, the tables and the pictures.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import click

from pgpack.errors import PgpackError
from pgpack.text.text_folder import TextFolder
from pgtrain.model.tensor_table import count_parameters

from .claims import record
from .pages import publish
from .plan import SCALES, Study
from .results import Measures, Results
from .rows import Found, Row, write_rows
from .training import Trained, checkpoints, in_processes, text_folder, train_runs

Measure = Callable[[Trained, int], Found]
Table = Callable[[Results], str]


def named(*tables: Table) -> Mapping[str, Table]:
    """Block of a README -> its text, each called as its function is, without `_table`."""
    return {table.__name__.removesuffix("_table"): table for table in tables}


@dataclass(frozen=True)
class Replication:
    """What a study adds to the steps that all have in common.

    `parts`: each measures one seed, in a process of its own; those that take longest come first, so that none ends
    alone. `tables`: block of the README -> its text. `across`: name -> seed -> value, of what only all seeds
    together have.
    """

    folder: Path
    parts: Sequence[Measure]
    tables: Mapping[str, Table]
    draw: Callable[[Results], None]
    across: Callable[[Results], Mapping[str, Mapping[int, float]]] = lambda results: {}

    def measure(self, trained: Trained) -> Results:
        """Measure every seed; rows, measures.json and pictures are written."""
        measures, rows = Measures(trained.scale), defaultdict[str, list[Row]](list)
        tasks = [partial(part, trained, seed) for part, seed in product(self.parts, trained.study.seeds)]
        for found in in_processes(tasks, trained.jobs, "measuring"):
            for name, value in found.values.items():
                measures.put(name, found.seed, value)
            for table, more in found.rows.items():
                rows[table] += more
        for table, all_rows in rows.items():
            write_rows(trained.results / f"{table}.csv", all_rows)
        results = Results(trained.study, trained.results, measures)
        for name, by_seed in self.across(results).items():
            for seed, value in by_seed.items():
                measures.put(name, seed, value)
        measures.save(trained.results / "measures.json")
        self.draw(results)
        return results

    def publish(self, results: Results) -> None:
        """Write claims and pages from the results."""
        record(self.folder / "claims.toml", results.measures)
        publish(self.folder, {name: table(results) for name, table in self.tables.items()})


def study_command(replication: Replication) -> click.Command:
    """The command of a study."""
    name = replication.folder.name

    @click.command(help=f"Train and measure the runs of {name}/study.toml; what is there is not done again.")
    @click.option("--scale", type=click.Choice(SCALES), default="tiny", show_default=True, help="Size of the runs.")
    @click.option("--data", type=click.Path(path_type=Path), help="Folder of shards; without: the built-in corpus.")
    @click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
    @click.option("--jobs", default=2, show_default=True, help="Processes at a time.")
    @click.option("--dry-run", is_flag=True, help="Print the runs and stop.")
    def command(scale: str, data: Path | None, device: str, jobs: int, dry_run: bool) -> None:
        try:
            study = Study.load(replication.folder)
            if dry_run:
                for run in study.runs(scale):
                    size = f"{count_parameters(run.model):>12,} parameters {run.training.steps:>7} steps"
                    click.echo(f"{run.file_name:40} {size}")
            else:
                _reproduce(replication, study, scale, data, device, jobs)
        except PgpackError as error:
            raise click.ClickException(str(error)) from error

    return command


def _reproduce(replication: Replication, study: Study, scale: str, data: Path | None, device: str, jobs: int) -> None:
    started = time.monotonic()
    text, out = TextFolder.open(data) if data else text_folder(), checkpoints(study.name, scale)
    runs = study.runs(scale)
    paths = train_runs(runs, text, out, jobs, device)
    trained_s = time.monotonic() - started
    folder = (study.folder if scale == "tiny" else out) / "results"
    by_name = {(run.name, run.seed): path for run, path in zip(runs, paths, strict=True)}
    results = replication.measure(Trained(study, scale, by_name, text, folder, device, jobs))
    if scale == "tiny":
        replication.publish(results)
    summary = {"trained_s": round(trained_s), "whole_s": round(time.monotonic() - started)}
    click.echo(json.dumps({"study": study.name, "scale": scale, "results": str(folder), **summary}))
