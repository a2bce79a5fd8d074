"""PR #1546, the tied-embedding bottleneck: `make reproduce-tied-embedding`."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from experiments.study.command import Trained, study_command
from experiments.study.measures import Measures
from experiments.study.pages import fill
from experiments.study.rows import write_rows
from experiments.study.training import one_thread

from .one_seed import SeedResult, measure_seed
from .pictures import draw
from .tables import BLOCKS

FOLDER = Path(__file__).parent


def measure(trained: Trained) -> Measures:
    """Every seed in a process of its own, then tables and pictures of all."""
    found = Measures()
    results = _seeds(trained)
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


def _seeds(trained: Trained) -> list[SeedResult]:
    study, scale = trained.study, trained.scale
    given = [({run: trained.path(run, seed) for run in study.purposes}, seed) for seed in study.seeds]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(trained.jobs, len(given)), mp_context=context, initializer=one_thread) as pool:
        return list(pool.map(measure_seed, *zip(*((study, scale, *each) for each in given), strict=True)))


main = study_command(FOLDER, measure)

if __name__ == "__main__":
    main()
