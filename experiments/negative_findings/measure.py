"""All parts on all seeds, side by side in processes of one thread each; then files, pictures and tables."""

from __future__ import annotations

import importlib
from itertools import product

from experiments.replication.command import Trained
from experiments.replication.measures import Measures
from experiments.replication.rows import Row, write_rows
from experiments.replication.training import in_processes

from .found import Found
from .publish import publish

# The longest first, so that no process ends alone.
PARTS = (
    "codebooks", "pruning", "averaging", "windows", "exports", "loops", "embeddings", "comparisons", "compiling",
)  # fmt: skip


def measure(trained: Trained) -> Measures:
    """Every part once per seed; rows and pictures go into results/."""
    tasks = [(trained, part, seed) for part, seed in product(PARTS, trained.study.seeds)]
    measures = Measures()
    rows: dict[str, list[Row]] = {}
    for (_, _, seed), found in zip(tasks, in_processes(_part, tasks, trained.jobs), strict=True):
        for name, value in found.values.items():
            measures.put(name, seed, value)
        for file, more in found.rows.items():
            rows.setdefault(file, []).extend(more)
    for file, table in rows.items():
        write_rows(trained.results / f"{file}.csv", table)
    publish(trained.results, trained.study.folder if trained.scale == "tiny" else None)
    return measures


def _part(task: tuple[Trained, str, int]) -> Found:
    trained, part, seed = task
    found: Found = importlib.import_module(f"{__package__}.{part}").measure(trained, seed)
    return found
