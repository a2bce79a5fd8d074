"""Negative findings (#212): `python -m experiments.negative_findings.run`, or `make reproduce-negative-findings`."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.command import study_command

from .measure import measure

main = study_command(Path(__file__).parent, measure)

if __name__ == "__main__":
    main()
