"""Tables of the study's README, from `results/measures.json` alone."""

from __future__ import annotations

from experiments.replication.pages import markdown_table
from experiments.replication.results import Results

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


def branches_table(results: Results) -> str:
    measures = results.measures
    header = (
        "run", "gamma, attention", "gamma, MLP", "share, attention", "share, MLP", "rank, attention", "rank, MLP",
    )  # fmt: skip
    rows = [
        (
            name,
            *(measures[f"{run}.gamma_{side}"].shown(4) for side in ("attn", "mlp")),
            *(measures[f"{run}.share_{side}"].shown(3) for side in ("attn", "mlp")),
            *(measures[f"{run}.rank_{side}"].shown(1) for side in ("attn", "mlp")),
        )
        for run, name in BRANCH_RUNS.items()
    ]
    return markdown_table(header, rows, "lrrrrrr")


def losses_table(results: Results) -> str:
    measures = results.measures
    header = ("run", "bits per byte", "more than EBLS")
    rows = [("the study's model", measures["ebls.bpb"].shown(4), "")]
    for run, name in {**LOSS_RUNS, "no-qat": "no QAT"}.items():
        rows.append((name, measures[f"{run}.bpb"].shown(4), measures[f"{run}-less-ebls.bpb"].shown(4, "+")))
    return markdown_table(header, rows, "lrr")


def worth_table(results: Results) -> str:
    header = ("taken from the trained model", *(BRANCH_RUNS[run] for run in WORTH_RUNS))
    rows = [
        (name, *(results.measures[f"{run}.{cut}"].shown(4, "+") for run in WORTH_RUNS)) for cut, name in TAKEN.items()
    ]
    return markdown_table(header, rows, "lrrr")


def gap_table(results: Results) -> str:
    measures = results.measures
    header = ("part, bits per byte", "with QAT", "without QAT")
    rows = [
        (name, *(measures[f"{group}.{part}"].shown(4, "+") for group in ("gap", "gap-no-qat")))
        for part, name in GAP_ROWS.items()
    ]
    name = "int6 rows, no floor, averaged weights"
    rows.append((name, *(measures[f"{g}.averaged_int6"].shown(4, "+") for g in ("gap", "gap-no-qat"))))
    rows += [
        (f"floor under {of} alone", measures[f"gap.floor_{group}"].shown(4, "+"), "") for group, of in FLOORS.items()
    ]
    return markdown_table(header, rows, "lrr")


TABLES = {"branches": branches_table, "losses": losses_table, "worth": worth_table, "gap": gap_table}
