"""Negative findings (#212): `python -m experiments.negative_findings.run`, or `make reproduce-negative-findings`."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.command import Replication, study_command

from . import averaging, codebooks, comparisons, compiling, embeddings, exports, loops, pruning, windows
from .pictures import draw
from .tables import TABLES

# The longest first, so that no process ends alone.
PARTS = (codebooks, pruning, averaging, windows, exports, loops, embeddings, comparisons, compiling)
STUDY = Replication(Path(__file__).parent, tuple(part.measure for part in PARTS), TABLES, draw)

if __name__ == "__main__":
    study_command(STUDY)()
