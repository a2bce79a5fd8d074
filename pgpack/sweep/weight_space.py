"""A sweep without a model: real sizes against the error of the decoded weights. No loss is measured, and it says so.

    candidate -> pack (decoded and compared) -> bytes
              -> relative squared error of the weights, averaged over all of them
              -> with a calibration file, the expected loss 1/2 sum f e H e^T (`pgpack.calibration.distortion`)

    DIR/distortion.jsonl   one Point per line, appended; a line without its newline was torn and does not count
    DIR/distortion.csv     the frontier

Owns these two files. Refuses the name of a loss: neither number ranks recipes of two checkpoints.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgpack import __version__
from pgpack.calibration.calibration import Calibration
from pgpack.calibration.distortion import expected_loss, relative_error
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import PgpackError, RoundTripError, StudyError
from pgpack.files import refusing, replace_study_file
from pgpack.pack import Artifact
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.spaces import Candidate
from pgpack.recipe.text import parse_recipe
from pgpack.study.frontier import pareto_indices
from pgpack.study.journal import Journal

POINTS_FILE, TABLE_FILE = "distortion.jsonl", "distortion.csv"
COLUMNS = ("n_bytes", "relative_error", "expected_loss", "label", "recipe")
Pack = Callable[[Recipe], Artifact]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One recipe, packed; `error` says why not. Units: `expected_loss` nats per token, None without Hessians."""

    key: str
    recipe: str
    label: str = ""
    n_bytes: int | None = None
    relative_error: float | None = None
    expected_loss: float | None = None
    error: str | None = None

    @property
    def distortion(self) -> float:
        """What points of one study are ranked by: the expected loss where it is known."""
        found = self.expected_loss if self.expected_loss is not None else self.relative_error
        return float("inf") if found is None else found


def without_hessians(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates with GPTQ replaced by plain rounding to the same steps; what nothing can replace is left out."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        if not candidate.recipe.container.is_field:
            recipe = parse_recipe(str(candidate.recipe).replace("gptq(", "sdclip("))
            candidate = dataclasses.replace(candidate, recipe=recipe)
        if not any(rule.policy.needs_hessian for rule in candidate.recipe.rules):
            found.setdefault(candidate.recipe.digest, candidate)
    return list(found.values())


def read_points(folder: Path) -> list[Point]:
    """The points of a folder in order, empty without the file. Raises StudyError when a whole line is none."""
    path = folder / POINTS_FILE
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        return [Point(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise StudyError(f"{path}: a line is no measured point ({error}); give another --out directory") from None


def run(
    checkpoint: Checkpoint,
    candidates: Sequence[Candidate],
    calibration: Calibration | None,
    folder: Path,
    pack: Pack,
    on_point: Callable[[Point], None] = lambda point: None,
) -> tuple[list[Point], int]:
    """Measure every candidate that `folder` has no point for; (the points of all candidates, how many are new).

    Raises: StudyError when another process writes there or its points cannot be read.
    """
    with refusing(folder, "create it"):
        folder.mkdir(parents=True, exist_ok=True)
    with Journal(folder / POINTS_FILE):  # its lock
        known = {point.key: point for point in read_points(folder)}
        _cut_torn_line(folder / POINTS_FILE)
        points, n_new = [], 0
        for candidate in candidates:
            key = point_key(checkpoint, candidate.recipe, calibration)
            if key not in known:
                known[key] = measure(checkpoint, candidate, calibration, key, pack)
                _append(folder / POINTS_FILE, known[key])
                n_new += 1
            points.append(known[key])
            on_point(known[key])
        replace_study_file(folder / TABLE_FILE, table(frontier(points)).encode())
    return points, n_new


def point_key(checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None) -> str:
    """sha256 hex of what decides a point."""
    parts = [
        "pgpack-point",
        checkpoint.digest,
        recipe.digest,
        calibration.digest if calibration else None,
        __version__,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def measure(
    checkpoint: Checkpoint, candidate: Candidate, calibration: Calibration | None, key: str, pack: Pack
) -> Point:
    """The point of a candidate; what went wrong is a point too."""
    known: dict[str, Any] = {"key": key, "recipe": str(candidate.recipe), "label": candidate.label}
    try:
        artifact = pack(candidate.recipe)
    except RoundTripError:
        raise
    except (PgpackError, MemoryError, ArithmeticError) as error:
        return Point(**known, error=str(error) or type(error).__name__)
    return Point(
        **known,
        n_bytes=artifact.n_bytes,
        relative_error=relative_error(checkpoint, artifact.records),
        expected_loss=expected_loss(checkpoint, artifact.records, calibration) if calibration else None,
    )


def frontier(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats in bytes and distortion, by ascending bytes."""
    measured = [point for point in points if point.n_bytes is not None]
    pairs = [(point.n_bytes or 0, point.distortion) for point in measured]
    return [measured[index] for index in pareto_indices(pairs)] if pairs else []


def best_under(points: Iterable[Point], budget: int | None) -> Point | None:
    """The point of least distortion within `budget` bytes; None when nothing fits."""
    fitting = [point for point in frontier(points) if budget is None or (point.n_bytes or 0) <= budget]
    return fitting[-1] if fitting else None


def table(points: Iterable[Point]) -> str:
    """The points as CSV text with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(point, column) for column in COLUMNS] for point in points)
    return text.getvalue()


def _append(path: Path, point: Point) -> None:
    with refusing(path, "append a point"), path.open("ab") as file:
        file.write(json.dumps(dataclasses.asdict(point), allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes() if path.is_file() else b""
    if data and not data.endswith(b"\n"):
        with path.open("rb+") as file:
            file.truncate(data.rfind(b"\n") + 1)
