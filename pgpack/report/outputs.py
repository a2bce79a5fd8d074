"""What a study leaves beside its journal: frontier.csv, frontier.svg, frontier.png, anatomy.json, report.html.

Each is replaced in one step: a full disk or a kill leaves the old file whole, and running the command again mends it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pgpack.anatomy import ANATOMY_FILE, added_losses, anatomy, read_anatomy
from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.files import replace_file
from pgpack.pack import Artifact
from pgpack.recipe.recipe import Recipe
from pgpack.study.frontier import frontier_csv, pareto
from pgpack.study.journal import Study
from pgpack.study.seeds import merged, seeds_csv

from .page import write_report
from .plot import Curve, FrontierPicture, picture_bytes

BEST_FILE = "best.pgpack"


def write_outputs(study: Study, breakdown: Sequence[tuple[str, int]] = ()) -> tuple[Path, ...]:
    """Write the table, both pictures and the page into the study's directory, with several checkpoints also
    seeds.csv; their paths come back.

    `breakdown`: (name, n_bytes) of the best artifact's parts, for the page. Without one measured trial only the
    table and the page are written.
    """
    study = merged(study)
    folder, meta = study.directory, study.meta
    table = folder / "frontier.csv"
    replace_file(table, frontier_csv(pareto(study.trials)).encode())
    written = [table]
    if pareto(study.trials):
        title = f"Frontier of {meta.title}"
        curve = Curve(folder.resolve().name, study.trials)
        picture = FrontierPicture((curve,), title, budget=meta.budget, fp32_bpb=meta.fp32_bpb)
        for suffix in (".svg", ".png"):
            written.append(folder / f"frontier{suffix}")
            replace_file(written[-1], picture_bytes(picture, suffix))
    page = folder / "report.html"
    write_report(study, page, breakdown, read_anatomy(folder))
    written.append(page)
    if study.meta.others:
        written.append(folder / "seeds.csv")
        replace_file(written[-1], seeds_csv(study.seeds.values()).encode())
    return tuple(written)


def write_anatomy(
    folder: Path, artifact: Artifact, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None
) -> None:
    """Write anatomy.json of a study's best artifact, with the loss that quantizing each tensor adds."""
    losses, unit = added_losses(checkpoint, artifact.records, recipe, calibration)
    known = {name: loss for name, loss in losses.items() if math.isfinite(loss)}
    parts = anatomy(artifact.data, artifact.report.tensors, known, unit)
    replace_file(folder / ANATOMY_FILE, parts.to_json().encode())
