"""Tables of the study's README, from `results/measures.json` alone."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.measures import Measures
from experiments.replication.pages import fill, markdown_table

from .figures import LOSS_RUNS

BRANCH_RUNS = {
    "ebls": "the study's model",
    "no-penalty": "lambda = 0",
    "random-b": "B random at the start",
    "fixed-gamma": "gamma stays 0.12, lambda = 0",
    "frozen-scales": "scales frozen",
    "rank-1": "rank 1",
    "narrow": "5/8 of the width",
    "no-qat": "no QAT",
    "mute": "gammas act on nothing",
}
WORTH_RUNS = ("ebls", "no-penalty", "fixed-gamma")
TAKEN = {
    "cut_attn": "attention branches",
    "cut_mlp": "MLP branches",
    "cut_both": "all branches",
    "cut_scales": "own scales (their mean per block instead)",
}
GAP_ROWS = {
    "swap": "averaged weights for the last ones, nothing packed",
    "int6": "int6 rows, no floor, last weights",
    "floor": "floor of 1/31 under the steps, last weights",
    "sum": "sum of the three",
    "rest": "rest: the parts together less their sum",
    "total": "the whole gap",
}
FLOORS = {"embedding": "the table", "bigram": "BigramHash", "attention": "attention", "mlp": "the MLPs"}


def number(measures: Measures, name: str, digits: int = 4, signed: bool = False) -> str:
    """Mean and standard deviation over seeds."""
    measured = measures[name]
    return f"{measured.mean:{'+' if signed else ''}.{digits}f} ± {measured.std:.{digits}f}"


def branches_table(measures: Measures) -> str:
    header = (
        "run", "gamma, attention", "gamma, MLP", "share, attention", "share, MLP", "rank, attention", "rank, MLP",
    )  # fmt: skip
    rows = [
        (
            name,
            *(number(measures, f"{run}.gamma_{side}") for side in ("attn", "mlp")),
            *(number(measures, f"{run}.share_{side}", 3) for side in ("attn", "mlp")),
            *(number(measures, f"{run}.rank_{side}", 1) for side in ("attn", "mlp")),
        )
        for run, name in BRANCH_RUNS.items()
    ]
    return markdown_table(header, rows, "lrrrrrr")


def losses_table(measures: Measures) -> str:
    header = ("run", "bits per byte", "more than EBLS")
    rows = [("the study's model", number(measures, "ebls.bpb"), "")]
    for run, name in {**LOSS_RUNS, "no-qat": "no QAT"}.items():
        rows.append((name, number(measures, f"{run}.bpb"), number(measures, f"{run}-less-ebls.bpb", 4, signed=True)))
    return markdown_table(header, rows, "lrr")


def worth_table(measures: Measures) -> str:
    header = ("taken from the trained model", *(BRANCH_RUNS[run] for run in WORTH_RUNS))
    rows = [
        (name, *(number(measures, f"{run}.{cut}", 4, signed=True) for run in WORTH_RUNS))
        for cut, name in TAKEN.items()
    ]
    return markdown_table(header, rows, "lrrr")


def gap_table(measures: Measures) -> str:
    header = ("part, bits per byte", "with QAT", "without QAT")
    rows = [
        (name, *(number(measures, f"{group}.{part}", 4, signed=True) for group in ("gap", "gap-no-qat")))
        for part, name in GAP_ROWS.items()
    ]
    name = "int6 rows, no floor, averaged weights"
    rows.append((name, *(number(measures, f"{g}.averaged_int6", 4, signed=True) for g in ("gap", "gap-no-qat"))))
    rows += [
        (f"floor under {of} alone", number(measures, f"gap.floor_{group}", 4, signed=True), "")
        for group, of in FLOORS.items()
    ]
    return markdown_table(header, rows, "lrr")


TABLES = {"branches": branches_table, "losses": losses_table, "worth": worth_table, "gap": gap_table}


def fill_tables(readme: Path, measures: Measures) -> None:
    """Write every table into the page."""
    for name, table in TABLES.items():
        fill(readme, name, table(measures))
