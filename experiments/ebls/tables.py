"""Tables of the study's README, from `results/measures.json` alone."""

from __future__ import annotations

from experiments.replication.command import named
from experiments.replication.pages import markdown_table
from experiments.replication.results import Results

from .figures import LOSS_RUNS, NAMES

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
    "averaged_int6": "int6 rows, no floor, averaged weights",
}
FLOORS = {"embedding": "the table", "bigram": "BigramHash", "attention": "attention", "mlp": "the MLPs"}


def branches_table(results: Results) -> str:
    kinds = (("gamma", 4), ("share", 3), ("rank", 1))
    header = ("run", *(f"{kind}, {side}" for kind, _ in kinds for side in NAMES.values()))
    rows = [
        (
            name,
            *(
                cell
                for kind, digits in kinds
                for cell in results.shown(digits, *(f"{run}.{kind}_{s}" for s in NAMES))
            ),
        )
        for run, name in BRANCH_RUNS.items()
    ]
    return markdown_table(header, rows, "lrrrrrr")


def losses_table(results: Results) -> str:
    header = ("run", "bits per byte", "more than EBLS")
    rows = [("the study's model", *results.shown(4, "ebls.bpb"), "")]
    for run, name in {**LOSS_RUNS, "no-qat": "no QAT"}.items():
        rows.append((name, *results.shown(4, f"{run}.bpb"), *results.shown(4, f"{run}-less-ebls.bpb", sign="+")))
    return markdown_table(header, rows, "lrr")


def worth_table(results: Results) -> str:
    header = ("taken from the trained model", *(BRANCH_RUNS[run] for run in WORTH_RUNS))
    rows = [
        (name, *results.shown(4, *(f"{run}.{cut}" for run in WORTH_RUNS), sign="+")) for cut, name in TAKEN.items()
    ]
    return markdown_table(header, rows, "lrrr")


def gap_table(results: Results) -> str:
    header = ("part, bits per byte", "with QAT", "without QAT")
    rows = [
        (name, *results.shown(4, f"gap.{part}", f"gap-no-qat.{part}", sign="+")) for part, name in GAP_ROWS.items()
    ]
    rows += [
        (f"floor under {of} alone", *results.shown(4, f"gap.floor_{g}", sign="+"), "") for g, of in FLOORS.items()
    ]
    return markdown_table(header, rows, "lrr")


TABLES = named(branches_table, losses_table, worth_table, gap_table)
