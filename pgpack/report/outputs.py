"""What a study leaves beside its journal: frontier.csv, the pictures frontier, depth and kinds as .svg and .png,
anatomy.json, report.html.

Each is replaced in one step: a full disk or a kill leaves the old file whole, and running the command again mends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pgpack.calibration.calibration import Calibration
from pgpack.calibration.distortion import added_losses
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import FormatError
from pgpack.formats.own.manifest import read_manifest
from pgpack.inspect import Anatomy, anatomy
from pgpack.pack import Artifact
from pgpack.picture import PICTURE_SUFFIXES, figure_bytes
from pgpack.recipe.recipe import Recipe
from pgpack.study.files import replace_study_file
from pgpack.study.plot import frontier_figure
from pgpack.study.seeds import seeds_csv
from pgpack.study.study import BEST_FILE, Study

from .anatomy_plot import DEPTH_TITLE, depth_figure, depth_words, depths_of, kinds_figure, kinds_title, kinds_words
from .page import render_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANATOMY_FILE = "anatomy.json"


def write_outputs(study: Study, breakdown: Sequence[tuple[str, int]] = ()) -> tuple[Path, ...]:
    """Write `outputs_of` a study into its directory; their paths come back."""
    written = []
    for name, made in outputs_of(study, breakdown).items():
        written.append(study.directory / name)
        replace_study_file(written[-1], made())
    return tuple(written)


def outputs_of(study: Study, breakdown: Sequence[tuple[str, int]] = ()) -> dict[str, Callable[[], bytes]]:
    """Names and contents of the table, the pictures and the page, with several checkpoints also of seeds.csv.

    `breakdown`: (name, n_bytes) of the best artifact's parts, for the page. Without one measured trial there are only
    the table and the page.
    """
    view, anatomy = study.frontier(), read_anatomy(study.directory)
    found: dict[str, Callable[[], bytes]] = {
        "distortion.csv" if view.metric == "error" else "frontier.csv": lambda: view.to_csv().encode()
    }
    if view.points:
        picture = view.picture
        found |= _pictures("frontier", picture.title, picture.words, partial(frontier_figure, picture))
    if anatomy is not None:
        found |= _anatomy_pictures(anatomy)
    found["report.html"] = lambda: render_report(study, breakdown, anatomy).encode()
    if study.meta.others:
        found["seeds.csv"] = lambda: seeds_csv(study.merged.seeds.values()).encode()
    return found


def _anatomy_pictures(anatomy: Anatomy) -> dict[str, Callable[[], bytes]]:
    """Names and contents of kinds.svg and kinds.png, and where there are layers of depth.svg and depth.png."""
    title = kinds_title(anatomy)
    found = _pictures("kinds", title, kinds_words(anatomy), partial(kinds_figure, anatomy, title))
    if depths_of(anatomy):
        found |= _pictures("depth", DEPTH_TITLE, depth_words(anatomy), partial(depth_figure, anatomy))
    return found


def _pictures(name: str, title: str, words: str, drawn: Callable[[], Figure]) -> dict[str, Callable[[], bytes]]:
    """Names and contents of the files of one picture, which is drawn once."""
    figure = cache(drawn)

    def contents(suffix: str) -> bytes:
        return figure_bytes(figure(), suffix, title=title, description=words)

    return {f"{name}{suffix}": partial(contents, suffix) for suffix in PICTURE_SUFFIXES}


def write_anatomy(
    folder: Path, artifact: Artifact, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None
) -> None:
    """Write anatomy.json of a study's best artifact, with the loss that quantizing each tensor adds."""
    losses, unit = added_losses(checkpoint, artifact.records, recipe, calibration)
    known = {name: loss for name, loss in losses.items() if math.isfinite(loss)}
    parts = anatomy(artifact.data, artifact.report.tensors, known, unit)
    replace_study_file(folder / ANATOMY_FILE, parts.to_json().encode())


def read_breakdown(study: Study) -> list[tuple[str, int]]:
    """(name, n_bytes) of the parts of a study's best artifact, of the first of several checkpoints, as its manifest
    lists them; none where it is not there or not whole."""
    for path in (study.directory / BEST_FILE, *sorted(study.directory.glob("best-*.pgpack"))):
        with suppress(FormatError, OSError):
            manifest = read_manifest(path) if path.is_file() else None
            if manifest is not None and manifest.checkpoint_digest == study.meta.checkpoint_digest:
                return [item for part in manifest.sizes.values() for item in part.items()]
    return []


def read_anatomy(directory: Path) -> Anatomy | None:
    """The anatomy of the best artifact of a study's directory; worked out from the artifact when it is not kept.

    None when there is no artifact, or it is not whole.
    """
    artifact = directory / BEST_FILE
    try:
        manifest = read_manifest(artifact)
        if manifest is None or not artifact.is_file():
            return None
        with suppress(FormatError, OSError, UnicodeDecodeError):  # not there, or damaged: worked out anew
            found = Anatomy.from_json((directory / ANATOMY_FILE).read_text(encoding="utf-8"))
            if found.sha256 == manifest.sha256:
                return found
        return anatomy(artifact.read_bytes(), manifest.sizes.get("tensors", {}))
    except (FormatError, OSError, UnicodeDecodeError):  # a page without these parts is better than none
        return None
