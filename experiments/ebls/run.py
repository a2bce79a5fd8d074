"""PR #433, learned sharing: `make reproduce-ebls`."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.command import Replication, study_command

from .figures import draw
from .one_seed import agreement, measure_seed
from .tables import TABLES

STUDY = Replication(Path(__file__).parent, (measure_seed,), TABLES, draw, agreement)

if __name__ == "__main__":
    study_command(STUDY)()
