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
from pgpack.study.frontier import Metric, bd_rate, frontier_csv, measured, pareto, points_of
from pgpack.study.pictured import Curve, FrontierPicture
from pgpack.study.plot import write_picture
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from pgpack.tables import csv_text

from .tables import number_table

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
    sentence = (
        f"BD-rate of the trellis engine against `{summary['peer']}` swept over its own dial, at equal KL to the fp32 "
        f"model: **{bd['kl']:+.1f} %** bytes (at equal bits per byte {bd['bpb']:+.1f} %), without tuning."
    )
    table = []
    for row in rows:
        bpb = float(row["bpb"])
        excess = f"{1000 * (bpb - summary['fp32_bpb']):+.1f} mBPB"
        table.append((row["name"], f"{int(row['n_bytes']):,}", f"{bpb:.4f}", excess, f"{float(row['kl']):.2g}"))
    header = ("recipe", "bytes", "bits per byte", "over fp32", "KL, nats per token")
    return "\n".join([sentence, "", *number_table(header, table)])


def publish(directory: Path, peer_directory: Path, out: Path) -> None:
    """Write CSV, pictures and the README table. Raises StudyError when the studies are not of one checkpoint."""
    study, peer = Study.load(directory), Study.load(peer_directory)
    digests = [(each.meta.checkpoint_digest, each.meta.evaluator_digest) for each in (study, peer)]
    if digests[0] != digests[1]:
        raise StudyError(f"{directory} and {peer_directory} measure different checkpoints or text")
    out.mkdir(parents=True, exist_ok=True)
    engine = [trial for trial in study.trials if ENGINE in trial.recipe]
    name = peer.trials[0].label.partition(":")[0].partition(" ")[0]
    rates = {m: bd_rate(points_of(peer.trials, m), points_of(engine, m), m).percent for m in ("kl", "bpb")}
    summary = {"fp32_bpb": study.meta.fp32_bpb, "peer": name, "bd_rate": rates, "budget": study.meta.budget}
    points = csv_text(FIELDS, ((name_of(t), t.n_bytes, t.bpb, t.kl, t.recipe) for t in best_points(study)))
    (out / "points.csv").write_text(points, encoding="utf-8")
    (out / "frontier.csv").write_text(frontier_csv(pareto(study.trials)), encoding="utf-8")
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _draw(study, peer, name, out)
    fill(ROOT / "README.md", "frontier", markdown(list(csv.DictReader(points.splitlines())), summary))


def _draw(study: Study, peer: Study, name: str, out: Path) -> None:
    title = "one small GPT, every packer: the demo's model on the built-in corpus"
    unnamed = tuple(dataclasses.replace(trial, label="") for trial in peer.trials)
    curves = (Curve("pgpack", study.trials), Curve(f"{name}, its own dial", unnamed))
    metrics: tuple[tuple[Metric, float | None], ...] = (("kl", None), ("bpb", study.meta.fp32_bpb))
    for metric, fp32 in metrics:
        picture = FrontierPicture(curves, title, metric, study.meta.budget, fp32, study.meta.fp32_n_bytes)
        for suffix in ("svg", "png"):
            write_picture(picture, out / f"frontier-{metric}.{suffix}")


def main(arguments: Sequence[str]) -> int:
    """Exit code 2 when called without two studies and an output folder."""
    if len(arguments) != 3:
        sys.stderr.write("usage: python -m experiments.rate_distortion.publish STUDY PEER OUT\n")
        return 2
    publish(*(Path(argument) for argument in arguments))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
