"""Everything that is measured of one seed's models; seeds are measured in processes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.replication.packing import logged_bpb
from experiments.replication.results import Results
from experiments.replication.rows import Found, Row
from experiments.replication.training import Trained
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgtrain.model.tensor_table import count_parameters

from .branches import gammas, of_places, pattern_agreement, places, unfoldable, worth
from .gap import floors, parts
from .tables import BRANCH_RUNS, WORTH_RUNS

DRAWN = ("ebls", "no-penalty", "random-b", "mute")  # gammas at every snapshot
LOSS_TOKENS = 8192


def measure_seed(trained: Trained, seed: int) -> Found:
    found = Found(seed)
    _branches(found, trained)
    _losses(found, trained)
    _gaps(found, trained)
    left = unfoldable(trained.path("ebls", seed))
    found.put("ebls", {**left, "unfoldable_max": max(left.values())})
    models = (trained.study.run(run, seed, "full").model for run in ("ebls", "unshared"))
    shared, unshared = (count_parameters(model) for model in models)  # the same for every seed
    found.put("full", {"parameters": shared, "parameters_freed": 1 - shared / unshared})
    return found


def agreement(results: Results) -> Mapping[str, Mapping[int, float]]:
    """How alike the seeds' patterns are, which no seed has alone."""
    return {"ebls.gamma_agreement": pattern_agreement(at_the_end(results.rows("branches"), "ebls"))}


def at_the_end(rows: Sequence[Row], run: str) -> list[Row]:
    """The rows of a run at its last step."""
    last = max(int(row["step"]) for row in rows)
    return [row for row in rows if (row["run"], row["step"]) == (run, last)]


def _branches(found: Found, trained: Trained) -> None:
    """Of the study's model at every snapshot, of the others at the end; gammas alone at every one of DRAWN."""
    for run in BRANCH_RUNS:
        snapshots = trained.snapshots(run, found.seed)
        for step in snapshots if run == "ebls" else [max(snapshots)]:
            for place in places(snapshots[step]):
                found.add("branches", run=run, seed=found.seed, step=step, **place)
    for run in BRANCH_RUNS:
        found.put(run, of_places(at_the_end(found.rows["branches"], run)))
    for run in DRAWN:
        for step, path in trained.snapshots(run, found.seed).items():
            for place in gammas(path):
                found.add("gammas", run=run, seed=found.seed, step=step, **place)


def _losses(found: Found, trained: Trained) -> None:
    """Loss of every run on all held-out text, as training measured it, and its distance from the study's model."""
    paths = {run: trained.path(run, found.seed) for run in trained.study.purposes}
    losses = {run: logged_bpb(load_checkpoint(path)) for run, path in paths.items()}
    for run, loss in losses.items():
        found.values[f"{run}.bpb"] = loss
        if run != "ebls":
            found.values[f"{run}-less-ebls.bpb"] = loss - losses["ebls"]
    for run in WORTH_RUNS:
        taken = worth(paths[run], LOSS_TOKENS)
        found.put(run, {**taken, "cut_attn_less_mlp": taken["cut_attn"] - taken["cut_mlp"]})


def _gaps(found: Found, trained: Trained) -> None:
    split = {}
    for run in ("ebls", "no-qat"):
        snapshots = trained.snapshots(run, found.seed)
        last = snapshots[max(snapshots)]
        split[run] = parts(last, trained.path(run, found.seed), LOSS_TOKENS)
        if run == "ebls":
            found.put("gap", floors(last, LOSS_TOKENS))
    with_qat, without = split["ebls"], split["no-qat"]
    found.put("gap", with_qat)
    found.put("gap-no-qat", without)
    found.values["gap.qat_saves"] = without["int6"] - with_qat["int6"]
    found.values["gap.qat_saves_averaged"] = without["averaged_int6"] - with_qat["averaged_int6"]
