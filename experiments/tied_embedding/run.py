"""PR #1546, the tied-embedding bottleneck: `make reproduce-tied-embedding`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from experiments.replication.command import Trained, study_command
from experiments.replication.measures import Measures
from experiments.replication.pages import fill
from experiments.replication.rows import write_rows
from experiments.replication.training import in_processes

from .one_seed import measure_seed
from .pictures import draw
from .tables import BLOCKS

FOLDER = Path(__file__).parent


def measure(trained: Trained) -> Measures:
    """Every seed in a process of its own, then tables and pictures of all."""
    found = Measures()
    results = in_processes(partial(measure_seed, trained), trained.study.seeds, trained.jobs)
    for result in results:
        for name, value in result.values.items():
            found.put(name, result.seed, value)
    tables = {name: [row for result in results for row in result.rows[name]] for name in results[0].rows}
    for name, rows in tables.items():
        write_rows(trained.results / f"{name}.csv", rows)
    draw(trained.results, found)
    if trained.scale == "tiny":
        for name, table in BLOCKS.items():
            fill(FOLDER / "README.md", name, table(found, trained.study, trained.results))
    return found


main = study_command(FOLDER, measure)

if __name__ == "__main__":
    main()
