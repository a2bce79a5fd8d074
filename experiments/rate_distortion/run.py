"""The study of our own engine: `python -m experiments.rate_distortion.run`, or `make reproduce-rate-distortion`."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from experiments.replication.command import Trained, study_command
from experiments.replication.measures import Measures
from experiments.replication.rows import Row as TableRow
from experiments.replication.rows import write_rows
from experiments.replication.training import in_processes
from pgpack.errors import StudyError
from pgpack.study.frontier import bd_rate

from .laboratory import open_laboratory
from .pictures import draw
from .rows import Row, points
from .short import ShortBench, measure_short
from .short_tables import fill_tables

MAX_TOKENS = 8192
POINT = ("curve", "dial", "n_bytes", "kl", "bpb", "mse", "recipe")


def measure(trained: Trained) -> Measures:
    """Curves of every seed's model, each in a process of its own; then rows, picture and tables of all."""
    measures, rows = Measures(), []
    seeds = trained.study.seeds
    benches = in_processes(partial(measure_seed, trained), seeds, trained.jobs)
    for seed, bench in zip(seeds, benches, strict=True):
        _put(measures, bench, seed)
        rows += [_point(seed, row) for row in _all_rows(bench)]
    write_rows(trained.results / "points.csv", rows)
    draw(trained.results, rows)
    if trained.scale == "tiny":
        fill_tables(trained.study.folder / "README.md", measures)
    return measures


def measure_seed(trained: Trained, seed: int) -> ShortBench:
    """Curves of one model; points already measured are read from beside its checkpoint."""
    path = trained.path("model", seed)
    laboratory = open_laboratory(path, path.stem, path.with_suffix(".points"), MAX_TOKENS)
    return measure_short(laboratory, trained.scale == "full")


def _all_rows(bench: ShortBench) -> list[Row]:
    return [*bench.engine, *(row for rows in (*bench.peers.values(), *bench.changed.values()) for row in rows)]


def _point(seed: int, row: Row) -> TableRow:
    values = dataclasses.asdict(row)
    return {"seed": seed, **{name: values[name] for name in POINT}}


def _put(measures: Measures, bench: ShortBench, seed: int) -> None:
    """BD-rates in percent: the engine against each peer, and each changed engine against the engine."""
    for name, rows in bench.peers.items():
        for metric in ("kl", "bpb"):
            _put_rate(measures, f"against {name}.{metric}", seed, rows, bench.engine, metric)
    for name, rows in bench.changed.items():
        _put_rate(measures, f"{name}.kl", seed, bench.engine, rows, "kl")
    measures.put("gap.bits", seed, bench.gap.measured - bench.gap.bound)
    measures.put("gap.measured", seed, bench.gap.measured)


def _put_rate(measures: Measures, name: str, seed: int, anchor: list[Row], test: list[Row], metric: str) -> None:
    try:
        rate = bd_rate(points(anchor, metric), points(test, metric), "bpb" if metric == "bpb" else "kl")
    except StudyError:  # curves that do not overlap say nothing; the claim that needs them fails by name
        return
    measures.put(name, seed, rate.percent)


main = study_command(Path(__file__).parent, measure)

if __name__ == "__main__":
    main()
