"""What a study leaves beside its journal: frontier.csv, the pictures frontier, depth and kinds as .svg and .png,
anatomy.json, report.html.

Each is replaced in one step: a full disk or a kill leaves the old file whole, and running the command again mends it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pgpack.calibration.calibration import Calibration
from pgpack.calibration.distortion import added_losses
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import FormatError
from pgpack.files import replace_study_file
from pgpack.formats.own.manifest import read_manifest
from pgpack.inspect import Anatomy, anatomy
from pgpack.pack import Artifact
from pgpack.picture import PICTURE_SUFFIXES, figure_bytes
from pgpack.recipe.recipe import Recipe
from pgpack.study.plot import write_picture
from pgpack.study.seeds import seeds_csv
from pgpack.study.study import BEST_FILE, Study

from .anatomy_plot import DEPTH_TITLE, depth_figure, depth_words, depths_of, kinds_figure, kinds_title, kinds_words
from .page import write_report

ANATOMY_FILE = "anatomy.json"


def write_outputs(study: Study, breakdown: Sequence[tuple[str, int]] = ()) -> tuple[Path, ...]:
    """Write the table, the pictures and the page into the study's directory, with several checkpoints also
    seeds.csv; their paths come back.

    `breakdown`: (name, n_bytes) of the best artifact's parts, for the page. Without one measured trial only the
    table and the page are written.
    """
    folder, view = study.directory, study.frontier()
    table = folder / ("distortion.csv" if view.metric == "error" else "frontier.csv")
    replace_study_file(table, view.to_csv().encode())
    written = [table]
    if view.points:
        for suffix in (".svg", ".png"):
            written.append(folder / f"frontier{suffix}")
            write_picture(view.picture, written[-1])
    anatomy = read_anatomy(folder)
    written += [] if anatomy is None else write_anatomy_pictures(folder, anatomy)
    page = folder / "report.html"
    write_report(study, page, breakdown, anatomy)
    written.append(page)
    if study.meta.others:
        written.append(folder / "seeds.csv")
        replace_study_file(written[-1], seeds_csv(study.merged.seeds.values()).encode())
    return tuple(written)


def write_anatomy_pictures(folder: Path, anatomy: Anatomy) -> list[Path]:
    """Write depth.svg and depth.png, where there are layers, and kinds.svg and kinds.png; their paths come back."""
    title = kinds_title(anatomy)
    drawn = [("kinds", title, kinds_words(anatomy), kinds_figure(anatomy, title))]
    if depths_of(anatomy):
        drawn.append(("depth", DEPTH_TITLE, depth_words(anatomy), depth_figure(anatomy)))
    written = []
    for name, title, words, figure in drawn:
        for suffix in PICTURE_SUFFIXES:
            written.append(folder / f"{name}{suffix}")
            replace_study_file(written[-1], figure_bytes(figure, suffix, title=title, description=words))
    return written


def write_anatomy(
    folder: Path, artifact: Artifact, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None
) -> None:
    """Write anatomy.json of a study's best artifact, with the loss that quantizing each tensor adds."""
    losses, unit = added_losses(checkpoint, artifact.records, recipe, calibration)
    known = {name: loss for name, loss in losses.items() if math.isfinite(loss)}
    parts = anatomy(artifact.data, artifact.report.tensors, known, unit)
    replace_study_file(folder / ANATOMY_FILE, parts.to_json().encode())


def read_anatomy(directory: Path) -> Anatomy | None:
    """The anatomy of the best artifact of a study's directory; worked out from the artifact when it is not kept.

    None when there is no artifact, or it is not whole.
    """
    artifact = directory / BEST_FILE
    try:
        manifest = read_manifest(artifact)
        if manifest is None or not artifact.is_file():
            return None
        kept = directory / ANATOMY_FILE
        if kept.is_file():
            found = Anatomy.from_json(kept.read_text(encoding="utf-8"))
            if found.sha256 == manifest.sha256:
                return found
        return anatomy(artifact.read_bytes(), manifest.sizes.get("tensors", {}))
    except (FormatError, OSError, UnicodeDecodeError):  # a page without these parts is better than none
        return None
