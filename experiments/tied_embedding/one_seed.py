"""All that is measured on the runs of one seed: values by name, and rows for tables and pictures.

Names are `run.quantity`. Quantities that compare runs are formed here, seed by seed, so that what runs of one seed
share cancels.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from experiments.replication.packing import Bench, logged_bpb
from experiments.replication.plan import Study
from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgpack.checkpoint.analysis import analyze
from pgpack.checkpoint.checkpoint import load_checkpoint

from . import measuring, weights

REMOVED_FROM = ("tied", "untied", "narrow-12")
STARTS = ("narrow-12", "learned", "gaussian")
PAIRS = (
    ("refunded", "narrow-12"),
    ("learned", "narrow-12"),
    ("residual-no-x0", "residual"),
    ("residual-free-skips", "residual"),
)


def measure_seed(trained: Trained, seed: int) -> Found:
    study, scale = trained.study, trained.scale
    paths = {run: trained.path(run, seed) for run in study.purposes}
    found = Found(seed)
    for run, path in paths.items():
        _read_weights(found, run, path)
    _read_starts(found, study, scale, paths)
    _compare(found, study, scale, paths)
    for run in REMOVED_FROM:
        _remove_blocks(found, run, paths[run])
    tied = Bench(paths["tied"], measuring.TEXT_TOKENS)
    curve = measuring.clip_curve(tied, "tied", seed)
    found.rows["clips"] = curve
    found.put("clip", measuring.curve_measures(curve))
    found.put("cover", measuring.coverage(Bench(paths["narrow-12"], measuring.TEXT_TOKENS)))
    found.put("tied", measuring.learning(paths["tied"], ["all_learn"]))
    found.put("combination", measuring.learning(paths["combination"], list(measuring.FREEZES)))
    _compare_learning(found)
    return found


def _read_weights(found: Found, run: str, path: Path) -> None:
    checkpoint = load_checkpoint(path)
    analysis = analyze(checkpoint)
    found.put(run, {"bpb": logged_bpb(checkpoint), "parameters": analysis.n_params})
    found.put(run, weights.profile(analysis) | weights.rotations(analysis))
    for block in analysis.blocks:
        found.add(
            "blocks", run=run, seed=found.seed, block=block.index, contribution=block.contribution or 0.0,
            attn_scale=block.attn_scale or 0.0, mlp_scale=block.mlp_scale or 0.0,
            q_gain_std=block.q_gain_std or 0.0, x0="" if block.x0 is None else block.x0,
        )  # fmt: skip


def _read_starts(found: Found, study: Study, scale: str, paths: Mapping[str, Path]) -> None:
    for run in STARTS:
        start, end = weights.start_of(study.run(run, found.seed, scale)), load_checkpoint(paths[run])
        found.put(f"{run}-start", weights.rotations(analyze(start)))
        for when, checkpoint in (("start", start), ("end", end)):
            for name, values in weights.singular_values(checkpoint).items():
                for rank, value in enumerate(values):
                    found.add("singular", run=run, seed=found.seed, when=when, tensor=name, rank=rank, value=value)
    for name, checkpoint in (
        ("tied", load_checkpoint(paths["tied"])),
        ("tied-start", weights.start_of(study.run("tied", found.seed, scale))),
    ):
        errors = weights.rounding_errors(checkpoint)
        found.put(name, {"error": statistics.fmean(errors), "error_spread": max(errors) - min(errors)})


def _compare(found: Found, study: Study, scale: str, paths: Mapping[str, Path]) -> None:
    values = found.values
    for run in paths:
        for name in ("bpb", "ratio", "outer_skip", "last_over_middle"):
            values[f"{run}.{name}_less_tied"] = values[f"{run}.{name}"] - values[f"tied.{name}"]
        for name in ("first", "last", "total"):
            values[f"{run}.{name}_over_tied"] = values[f"{run}.{name}"] / values[f"tied.{name}"]
        balance = abs(values[f"{run}.first_lane_crosses"] - 0.5) - abs(values["tied.first_lane_crosses"] - 0.5)
        values[f"{run}.lane_imbalance_less_tied"] = balance
    for run, of in PAIRS:
        values[f"{run}.bpb_less_{of}"] = values[f"{run}.bpb"] - values[f"{of}.bpb"]
    values["gaussian.singular_spread_over_start"] = (
        values["gaussian.singular_spread"] / values["gaussian-start.singular_spread"]
    )
    lanes = study.run("combination", found.seed, scale).model.lane_start
    before = {
        run: statistics.fmean(
            float(row["contribution"])
            for row in found.rows["blocks"]
            if row["run"] == run and row["block"] in (lanes - 2, lanes - 1)
        )
        for run in ("tied", "combination", "narrow-12")
    }
    for run in ("combination", "narrow-12"):
        values[f"{run}.before_lanes_over_tied"] = before[run] / before["tied"]


def _remove_blocks(found: Found, run: str, path: Path) -> None:
    rises = measuring.removals(path)
    contributions = analyze(load_checkpoint(path)).contributions
    if run == "tied":
        found.put(run, measuring.boundary_importance(rises))
    found.put(run, {"agreement": measuring.agreement(rises, contributions)})
    for block, (rise, contribution) in enumerate(zip(rises, contributions, strict=True)):
        found.add("removals", run=run, seed=found.seed, block=block, contribution=contribution, bpb_rise=rise)


def _compare_learning(found: Found) -> None:
    values = found.values
    everything = values["combination.learning_all_learn"]
    values["learning.frozen_less_all"] = values["combination.learning_frozen"] - everything
    values["learning.scalars_less_all"] = values["combination.learning_scalars_frozen"] - everything
    values["learning.combination_less_tied"] = everything - values["tied.learning_all_learn"]
