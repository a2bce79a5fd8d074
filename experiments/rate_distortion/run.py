"""The study of our own engine: `python -m experiments.rate_distortion.run`, or `make reproduce-rate-distortion`."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.command import Replication, study_command

from .one_seed import measure_seed
from .short_page import TABLES, draw

STUDY = Replication(Path(__file__).parent, (measure_seed,), TABLES, draw)

if __name__ == "__main__":
    study_command(STUDY)()
