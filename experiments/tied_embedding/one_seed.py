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
from experiments.replication.rows import Found, by
from experiments.replication.training import Trained
from pgpack.checkpoint.analysis import analyze
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint

from . import measuring, weights

LEARNING = {"tied": ("all_learn",), "combination": tuple(measuring.FREEZES)}
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
    found.rows["clips"] = measuring.clip_curve(Bench(paths["tied"], measuring.TEXT_TOKENS), "tied", seed)
    found.put("clip", measuring.curve_measures(found.rows["clips"]))
    found.put("cover", measuring.coverage(Bench(paths["narrow-12"], measuring.TEXT_TOKENS)))
    tied, learned = (measuring.learning(paths[run], freezes) for run, freezes in LEARNING.items())
    found.put("tied", tied)
    found.put("combination", learned)
    everything = learned["learning_all_learn"]
    differences = {
        "frozen_less_all": learned["learning_frozen"] - everything,
        "scalars_less_all": learned["learning_scalars_frozen"] - everything,
        "combination_less_tied": everything - tied["learning_all_learn"],
    }
    found.put("learning", differences)
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
    def start_of(run: str) -> Checkpoint:
        return weights.start_of(study.run(run, found.seed, scale))

    for run in STARTS:
        start, end = start_of(run), load_checkpoint(paths[run])
        found.put(f"{run}-start", weights.rotations(analyze(start)))
        for when, checkpoint in (("start", start), ("end", end)):
            for name, values in weights.singular_values(checkpoint).items():
                for rank, value in enumerate(values):
                    found.add("singular", run=run, seed=found.seed, when=when, tensor=name, rank=rank, value=value)
    for name, checkpoint in (("tied", load_checkpoint(paths["tied"])), ("tied-start", start_of("tied"))):
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
    contributions = by(found.rows["blocks"], ("run", "block"), "contribution")
    before = {
        run: sum(contributions[run, block][0] for block in (lanes - 2, lanes - 1))
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
