"""Tables of the short bench in this folder's README, from `results/measures.json` alone."""

from __future__ import annotations

from experiments.replication.pages import markdown_table
from experiments.replication.results import Results

from .curves import ENGINE
from .one_seed import ABLATIONS, PRESET_DIALS


def _percent(results: Results, name: str) -> str:
    """Mean and standard deviation over seeds, a dash where the curves did not overlap."""
    if name not in results.measures:
        return "-"
    return f"{results.measures[name].shown(1, '+')} %"


def peers_table(results: Results) -> str:
    header = ("against", "bytes at equal KL", "at equal bits per byte")
    rows = [
        (f"`{name}`", *(_percent(results, f"against {name}.{metric}") for metric in ("kl", "bpb")))
        for name in PRESET_DIALS
    ]
    return markdown_table(header, rows, "lrr")


def ingredients_table(results: Results) -> str:
    header = (f"changed in `{ENGINE}`", "bytes at equal KL")
    rows = [(name, _percent(results, f"{name}.kl")) for name in ("tcq-8", *ABLATIONS)]
    return markdown_table(header, rows, "lr")


TABLES = {"peers": peers_table, "ingredients": ingredients_table}
