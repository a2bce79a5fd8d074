"""Publishes a study: its frontier as pictures and a table under results/, and the table in README.md.

    python -m experiments.rate_distortion.publish demo/frontier demo/sdclip-brotli results/demo

The first study is the demo's, the second a field preset swept over its own dial on the same checkpoint: the peer
of the BD-rate. Nothing in README between the markers is typed by hand; a test checks that it agrees with results/.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.replication.pages import ROOT, fill
from pgpack.errors import StudyError
from pgpack.recipe.presets import PRESETS
from pgpack.study.frontier import bd_rate, frontier_csv, measured, pareto, points_of
from pgpack.study.plot import Curve, FrontierPicture, write_picture
from pgpack.study.study import Study
from pgpack.study.trial import Trial

FIELDS = ("name", "n_bytes", "bpb", "kl", "recipe")
ENGINE = "tcq("


def name_of(trial: Trial) -> str:
    """What a reader calls a trial: its label, or the quantizer and coder of its last rule."""
    if trial.label:
        return trial.label
    chain = trial.recipe.split("; ")[-1].partition("=")[2]
    return " + ".join(stage.partition("(")[0] for stage in chain.split("|"))


def best_points(study: Study) -> list[Trial]:
    """The frontier by KL, and every field preset at its own setting for comparison, from small to large."""
    presets = [trial for trial in measured(study.trials, "kl") if trial.label.partition(" ")[0] in PRESETS]
    chosen = {trial.key: trial for trial in [*pareto(study.trials, "kl"), *presets]}
    return sorted(chosen.values(), key=lambda trial: (trial.n_bytes or 0, trial.key))


def markdown(rows: Sequence[Mapping[str, str]], summary: Mapping[str, Any]) -> str:
    """The README's sentence and table. `rows` and `summary` as published."""
    bd = summary["bd_rate"]
    lines = [
        f"BD-rate of the trellis engine against `{summary['peer']}` swept over its own dial, at equal KL to the fp32 "
        f"model: **{bd['kl']:+.1f} %** bytes (at equal bits per byte {bd['bpb']:+.1f} %), without tuning.",
        "",
        "| recipe | bytes | bits per byte | over fp32 | KL, nats per token |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        excess = 1000 * (float(row["bpb"]) - summary["fp32_bpb"])
        lines.append(
            f"| {row['name']} | {int(row['n_bytes']):,} | {float(row['bpb']):.4f} | {excess:+.1f} mBPB "
            f"| {float(row['kl']):.2g} |"
        )
    return "\n".join(lines)


def publish(directory: Path, peer_directory: Path, out: Path) -> None:
    """Write CSV, pictures and the README table. Raises StudyError when the studies are not of one checkpoint."""
    study, peer = Study.load(directory), Study.load(peer_directory)
    if (study.meta.checkpoint_digest, study.meta.evaluator_digest) != (
        peer.meta.checkpoint_digest,
        peer.meta.evaluator_digest,
    ):
        raise StudyError(f"{directory} and {peer_directory} measure different checkpoints or text")
    out.mkdir(parents=True, exist_ok=True)
    rows = [_row(trial) for trial in best_points(study)]
    engine = [trial for trial in study.trials if ENGINE in trial.recipe]
    name = peer.trials[0].label.partition(":")[0].partition(" ")[0]
    rates = {m: bd_rate(points_of(peer.trials, m), points_of(engine, m), m).percent for m in ("kl", "bpb")}
    summary = {"fp32_bpb": study.meta.fp32_bpb, "peer": name, "bd_rate": rates, "budget": study.meta.budget}
    with (out / "points.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / "frontier.csv").write_text(frontier_csv(pareto(study.trials)), encoding="utf-8")
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _draw(study, peer, name, out)
    fill(ROOT / "README.md", "frontier", markdown(rows, summary))


def _row(trial: Trial) -> dict[str, str]:
    numbers = {"n_bytes": str(trial.n_bytes), "bpb": repr(trial.bpb), "kl": repr(trial.kl)}
    return {"name": name_of(trial), **numbers, "recipe": trial.recipe}


def _draw(study: Study, peer: Study, name: str, out: Path) -> None:
    title = "one small GPT, every packer: the demo's model on the built-in corpus"
    unnamed = tuple(dataclasses.replace(trial, label="") for trial in peer.trials)
    curves = (Curve("pgpack", study.trials), Curve(f"{name}, its own dial", unnamed))
    for suffix in ("svg", "png"):
        picture = FrontierPicture(curves, title, "kl", study.meta.budget, None)
        write_picture(picture, out / f"frontier-kl.{suffix}")
        picture = FrontierPicture(curves, title, "bpb", study.meta.budget, study.meta.fp32_bpb)
        write_picture(picture, out / f"frontier-bpb.{suffix}")


def main(arguments: Sequence[str]) -> int:
    """Exit code 2 when called without two studies and an output folder."""
    if len(arguments) != 3:
        sys.stderr.write("usage: python -m experiments.rate_distortion.publish STUDY PEER OUT\n")
        return 2
    publish(*(Path(argument) for argument in arguments))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
