"""PR #2090: PRISM. `python -m experiments.prism.run`, or `make reproduce-prism`."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.command import Replication, study_command

from .one_seed import measure_seed
from .pictures import draw
from .tables import TABLES

STUDY = Replication(Path(__file__).parent, (measure_seed,), TABLES, draw)

if __name__ == "__main__":
    study_command(STUDY)()
