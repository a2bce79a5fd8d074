"""Everything that is measured of one seed's models; seeds are measured in processes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.replication.packing import logged_bpb
from experiments.replication.results import Results
from experiments.replication.rows import Found, Row
from experiments.replication.training import Trained
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgtrain.model.tensor_table import count_parameters

from .branches import gammas, places, unfoldable, worth
from .gap import floors, parts
from .summaries import of_places, pattern_agreement
from .tables import BRANCH_RUNS, WORTH_RUNS

DRAWN = ("ebls", "no-penalty", "random-b", "mute")  # gammas at every snapshot
LOSS_TOKENS = 8192


def measure_seed(trained: Trained, seed: int) -> Found:
    rows = _branch_rows(trained, seed)
    values = {
        **_branch_values(rows),
        **_losses(trained, seed),
        **_gaps(trained, seed),
        **_unfoldable(trained, seed),
        **_sizes(trained, seed),
    }
    return Found(seed, values, {"branches": rows, "gammas": _gamma_rows(trained, seed)})


def agreement(results: Results) -> Mapping[str, Mapping[int, float]]:
    """How alike the seeds' patterns are, which no seed has alone."""
    return {"ebls.gamma_agreement": pattern_agreement(at_the_end(results.rows("branches"), "ebls"))}


def at_the_end(rows: Sequence[Row], run: str) -> list[Row]:
    """The rows of a run at its last step."""
    last = max(int(row["step"]) for row in rows)
    return [row for row in rows if (row["run"], row["step"]) == (run, last)]


def _branch_rows(trained: Trained, seed: int) -> list[Row]:
    """Of the study's model at every snapshot, of the others at the end."""
    rows: list[Row] = []
    for run in BRANCH_RUNS:
        snapshots = trained.snapshots(run, seed)
        for step in snapshots if run == "ebls" else [max(snapshots)]:
            rows += [{"run": run, "seed": seed, "step": step, **place} for place in places(snapshots[step])]
    return rows


def _gamma_rows(trained: Trained, seed: int) -> list[Row]:
    return [
        {"run": run, "seed": seed, "step": step, **place}
        for run in DRAWN
        for step, path in trained.snapshots(run, seed).items()
        for place in gammas(path)
    ]


def _branch_values(rows: list[Row]) -> dict[str, float]:
    found = {}
    for run in BRANCH_RUNS:
        found |= {f"{run}.{name}": value for name, value in of_places(at_the_end(rows, run)).items()}
    return found


def _losses(trained: Trained, seed: int) -> dict[str, float]:
    """Loss of every run on all held-out text, as training measured it, and its distance from the study's model."""
    losses = {run: logged_bpb(load_checkpoint(trained.path(run, seed))) for run in trained.study.purposes}
    found = {f"{run}.bpb": loss for run, loss in losses.items()}
    found |= {f"{run}-less-ebls.bpb": loss - losses["ebls"] for run, loss in losses.items() if run != "ebls"}
    for run in WORTH_RUNS:
        taken = worth(trained.path(run, seed), LOSS_TOKENS)
        found |= {f"{run}.{name}": value for name, value in taken.items()}
        found[f"{run}.cut_attn_less_mlp"] = taken["cut_attn"] - taken["cut_mlp"]
    return found


def _gaps(trained: Trained, seed: int) -> dict[str, float]:
    by_group = {}
    for run, group in (("ebls", "gap"), ("no-qat", "gap-no-qat")):
        snapshots = trained.snapshots(run, seed)
        last = snapshots[max(snapshots)]
        by_group[group] = parts(last, trained.path(run, seed), LOSS_TOKENS)
        if run == "ebls":
            by_group[group] |= floors(last, LOSS_TOKENS)
    found = {f"{group}.{name}": value for group, values in by_group.items() for name, value in values.items()}
    for group, values in by_group.items():
        found |= {f"{group}.{name}_share": values[name] / values["total"] for name in ("swap", "int6", "floor")}
    with_qat, without = by_group["gap"], by_group["gap-no-qat"]
    found["gap.qat_saves"] = without["int6"] - with_qat["int6"]
    found["gap.qat_saves_averaged"] = without["averaged_int6"] - with_qat["averaged_int6"]
    return found


def _unfoldable(trained: Trained, seed: int) -> dict[str, float]:
    left = unfoldable(trained.path("ebls", seed))
    return {f"ebls.{name}": value for name, value in {**left, "unfoldable_max": max(left.values())}.items()}


def _sizes(trained: Trained, seed: int) -> dict[str, float]:
    """Parameters of the full-size models: a count, the same for every seed."""
    shared, unshared = (count_parameters(trained.study.run(run, seed, "full").model) for run in ("ebls", "unshared"))
    return {"full.parameters": shared, "full.parameters_freed": 1 - shared / unshared}
