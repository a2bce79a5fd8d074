"""Publishes a study: its frontier as a picture and a table under results/, and the table in README.md.

    python -m experiments.rate_distortion.publish demo/study results/demo

Nothing in README between the markers is typed by hand; a test checks that it agrees with results/.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from pgpack.frontier import frontier_csv, measured, pareto
from pgpack.plot import Curve, FrontierPicture, write_picture
from pgpack.sweep.journal import Study
from pgpack.sweep.trial import Trial

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- frontier: begin -->", "<!-- frontier: end -->"
FIELDS = ("name", "n_bytes", "bpb", "kl", "recipe")
PEER = "sdclip-brotli"


def kind_of(trial: Trial) -> str:
    """What a reader calls a trial: the field preset's name, or the quantizer and coder of its last rule."""
    if trial.label:
        return trial.label
    chain = trial.recipe.split("; ")[-1].partition("=")[2]
    return " + ".join(stage.partition("(")[0] for stage in chain.split("|"))


def best_points(study: Study) -> list[Trial]:
    """The frontier by KL, and every field preset at its own setting for comparison, from small to large."""
    front = pareto(study.trials, "kl")
    presets = [trial for trial in measured(study.trials, "kl") if trial.label and " " not in trial.label]
    chosen = {trial.key: trial for trial in [*front, *presets]}
    return sorted(chosen.values(), key=lambda trial: (trial.n_bytes or 0, trial.key))


def markdown(rows: Sequence[dict[str, str]], fp32_bpb: float) -> str:
    """The README's table. `rows` as in the published CSV."""
    lines = ["| recipe | bytes | bits per byte | over fp32 | KL, nats per token |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        loss = 1000 * (float(row["bpb"]) - fp32_bpb)
        lines.append(
            f"| {row['name']} | {int(row['n_bytes']):,} | {float(row['bpb']):.4f} | {loss:+.1f} mBPB "
            f"| {float(row['kl']):.2g} |"
        )
    return "\n".join(lines)


def publish(directory: Path, out: Path, title: str) -> None:
    """Write CSV, pictures and the README table of the study in `directory`."""
    study = Study.load(directory)
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "name": kind_of(trial),
            "n_bytes": str(trial.n_bytes),
            "bpb": repr(trial.bpb),
            "kl": repr(trial.kl),
            "recipe": trial.recipe,
        }
        for trial in best_points(study)
    ]
    with (out / "points.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / "frontier.csv").write_text(frontier_csv(pareto(study.trials)), encoding="utf-8")
    (out / "fp32_bpb.txt").write_text(f"{study.meta.fp32_bpb!r}\n", encoding="utf-8")
    for metric in ("bpb", "kl"):
        fp32 = study.meta.fp32_bpb if metric == "bpb" else None
        picture = FrontierPicture((Curve(title, study.trials),), title, metric, study.meta.budget, fp32)
        for suffix in ("svg", "png"):
            write_picture(picture, out / f"frontier-{metric}.{suffix}")
    assert study.meta.fp32_bpb is not None
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n{markdown(rows, study.meta.fp32_bpb)}\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Exit code 2 when called without a study and an output folder."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m experiments.rate_distortion.publish STUDY OUT\n")
        return 2
    publish(Path(arguments[0]), Path(arguments[1]), "the demo's 2.0 M-parameter model, built-in corpus")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
