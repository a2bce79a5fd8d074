"""Tables of the short bench in this folder's README, from `results/measures.json` alone."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.measures import Measures
from experiments.replication.pages import fill, markdown_table

from .curves import ENGINE
from .short import ABLATIONS, PRESET_DIALS


def percent(measures: Measures, name: str) -> str:
    """Mean and standard deviation over seeds, a dash where the curves did not overlap."""
    if name not in measures:
        return "-"
    measured = measures[name]
    return f"{measured.mean:+.1f} ± {measured.std:.1f} %"


def peers_table(measures: Measures) -> str:
    header = ("against", "bytes at equal KL", "at equal bits per byte")
    rows = [
        (f"`{name}`", *(percent(measures, f"against {name}.{metric}") for metric in ("kl", "bpb")))
        for name in PRESET_DIALS
    ]
    return markdown_table(header, rows, "lrr")


def ingredients_table(measures: Measures) -> str:
    header = (f"changed in `{ENGINE}`", "bytes at equal KL")
    rows = [(name, percent(measures, f"{name}.kl")) for name in ("tcq-8", *ABLATIONS)]
    return markdown_table(header, rows, "lr")


def fill_tables(readme: Path, measures: Measures) -> None:
    """Write both tables into the page."""
    fill(readme, "peers", peers_table(measures))
    fill(readme, "ingredients", ingredients_table(measures))
