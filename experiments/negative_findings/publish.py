"""Pictures and README tables from results/."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.pages import fill

from .pictures import draw_all
from .tables import BLOCKS


def publish(results: Path, folder: Path | None) -> None:
    """Draw every picture; with `folder`, fill the tables of its README."""
    draw_all(results)
    if folder is None:
        return
    for name, table in BLOCKS.items():
        fill(folder / "README.md", name, table(results))
