"""PR #433, learned sharing: `make reproduce-ebls`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from experiments.replication.command import Trained, study_command
from experiments.replication.measures import Measures
from experiments.replication.rows import read_rows, write_rows
from experiments.replication.training import in_processes

from .figures import draw
from .one_seed import measure_seed
from .summaries import pattern_agreement
from .tables import fill_tables


def measure(trained: Trained) -> Measures:
    """Every seed in a process of its own, then rows, pictures and tables of all."""
    found = Measures()
    results = in_processes(partial(measure_seed, trained), trained.study.seeds, trained.jobs)
    for result in results:
        for name, value in result.values.items():
            found.put(name, result.seed, value)
    for name in ("branches", "gammas"):
        write_rows(trained.results / f"{name}.csv", [row for result in results for row in getattr(result, name)])
    branches, gammas = (read_rows(trained.results / f"{name}.csv") for name in ("branches", "gammas"))
    last = max(int(row["step"]) for row in branches)
    final = [row for row in branches if row["run"] == "ebls" and row["step"] == last]
    for seed, value in pattern_agreement(final).items():
        found.put("ebls.gamma_agreement", seed, value)
    draw(trained.results, gammas, branches, found)
    if trained.scale == "tiny":
        fill_tables(trained.study.folder / "README.md", found)
    return found


main = study_command(Path(__file__).parent, measure)

if __name__ == "__main__":
    main()
