"""Which files of a study are what they were written as: a line each, without changing anything.

    study.json, trials.jsonl, tensors.jsonl | calibration-*.safetensors
    best*.pgpack, .json, anatomy.json | tables, pictures, page

Owns what `pgpack sweep --check` says. The sweep's own command makes all of these again, and measures damaged rows
again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pgpack.calibration.calibration import load_calibration
from pgpack.errors import CalibrationError, FormatError, StudyError
from pgpack.formats.own.manifest import Manifest, read_manifest
from pgpack.inspect import Anatomy
from pgpack.study.card import STUDY_FILE
from pgpack.study.journal import TRIALS_FILE, Journal, Lines
from pgpack.study.study import BEST_FILE, Study
from pgpack.study.tensor_bytes import TENSORS_FILE, TensorBytes
from pgpack.study.trial import Trial
from pgpack.tables import counted

from .outputs import ANATOMY_FILE, outputs_of

TOLD = ("recipe", "recipe_digest", "weights_digest", "calibration_digest", "n_bytes", "bpb", "nats", "kl")
AGAIN = "the same sweep makes it again"


@dataclass(frozen=True)
class FileState:
    """A file of a study by its name, whether it is whole, and what was found."""

    name: str
    ok: bool
    detail: str


def check_study(folder: Path) -> tuple[FileState, ...]:
    """The state of every file that a finished study has. Raises: StudyError when there is no study."""
    begun = [(folder / name).is_file() for name in (STUDY_FILE, TRIALS_FILE)]
    if not any(begun):
        raise StudyError(f"{folder} holds no {STUDY_FILE}; give the folder of a `pgpack sweep`")
    if not begun[0]:
        return (FileState(STUDY_FILE, False, f"is missing; {AGAIN}"),)
    try:
        lines = Journal(folder / TRIALS_FILE).scan()
    except StudyError as error:
        return (FileState(TRIALS_FILE, False, str(error)),)
    if not begun[1]:
        return (FileState(TRIALS_FILE, False, f"is missing; {AGAIN}"),)
    try:
        study = Study.load(folder, lines.trials)
    except StudyError as error:
        return (FileState(STUDY_FILE, False, str(error)),)
    found = [FileState(STUDY_FILE, True, f"a study of {study.meta.title}"), *_rows(study, lines), *_tensors(study)]
    found += [_calibration(path) for path in sorted(folder.glob("calibration-*.safetensors"))]
    if not lines.damaged:
        found += _outputs(study)
    return tuple(found)


def _rows(study: Study, lines: Lines) -> list[FileState]:
    if lines.damaged:
        return [FileState(TRIALS_FILE, False, f"{fault}; {AGAIN}") for fault in lines.damaged]
    rows, torn = counted(len(study.trials) + len(study.partial), "trial"), lines.torn_bytes
    return [
        FileState(TRIALS_FILE, True, rows + (f"; the last {torn:,} bytes are of a row that was cut" if torn else ""))
    ]


def _tensors(study: Study) -> list[FileState]:
    kept = TensorBytes(study.directory).scan()
    if kept.lost(study.trials):
        return [FileState(TENSORS_FILE, False, f"{fault}; {AGAIN}") for fault in kept.damaged]
    return [FileState(TENSORS_FILE, True, f"bytes of every tensor of {counted(len(kept.rows), 'trial')}")]


def _calibration(path: Path) -> FileState:
    try:
        found = load_calibration(path)
    except CalibrationError as error:
        return FileState(path.name, False, f"{error}; {AGAIN}")
    return FileState(path.name, True, f"{counted(len(found.names), 'Hessian')}, {found.n_tokens:,} tokens")


def _outputs(study: Study) -> Iterator[FileState]:
    """The best artifacts, and what is made of them and of the journal."""
    best, folder = study.frontier().best, study.directory
    breakdown: list[tuple[str, int]] = []
    if best is not None:
        several = sorted(folder.glob("best-*.pgpack"))
        paths = several if study.meta.others else [folder / BEST_FILE]
        if len(paths) < len(study.meta.checkpoints):
            yield FileState(
                "best-*.pgpack", False, f"{len(paths)} of {len(study.meta.checkpoints)} are there; {AGAIN}"
            )
        made_by = {
            trial.checkpoint_digest: trial
            for trial in study.trials
            if trial.ok and trial.recipe_digest == best.recipe_digest
        }
        for path in paths:
            why, manifest = artifact_fault(path, made_by)
            yield FileState(path.name, not why, f"{why}; {AGAIN}" if why else f"{path.stat().st_size:,} bytes")
            if manifest is not None and manifest.checkpoint_digest == study.meta.checkpoint_digest:
                breakdown = [item for part in manifest.sizes.values() for item in part.items()]
                why = anatomy_fault(folder / ANATOMY_FILE, manifest)
                yield FileState(ANATOMY_FILE, not why, f"{why}; {AGAIN}" if why else "of the best artifact")
    for name, made in outputs_of(study, breakdown).items():
        path = folder / name
        whole = path.is_file() and path.read_bytes() == made()
        yield FileState(
            name, whole, "as the journal gives it" if whole else f"is not what the journal gives; {AGAIN}"
        )


def artifact_fault(path: Path, made_by: Mapping[str, Trial]) -> tuple[str, Manifest | None]:
    """Why an artifact and its manifest are not those of a trial, '' where they are; and the manifest, where it is of
    the artifact.

    `made_by`: digest of a checkpoint -> its trial. A manifest's numbers are those of the trial.
    """
    try:
        manifest = read_manifest(path)
        data = path.read_bytes()
    except (FormatError, OSError) as error:
        return (str(error) if isinstance(error, FormatError) else "is missing"), None
    if manifest is None:
        return "its manifest is missing", None
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        return "is another file than its manifest describes", None
    trial = made_by.get(manifest.checkpoint_digest)
    if trial is None or any(getattr(manifest, name) != getattr(trial, name) for name in TOLD):
        return "is not that of the best trial", manifest
    total = sum(n for part in manifest.sizes.values() for n in part.values())
    recipe = hashlib.sha256(manifest.recipe_canonical.encode()).hexdigest()
    if (manifest.n_bytes, total, recipe) != (len(data), len(data), manifest.recipe_digest):
        return "its manifest is damaged", manifest
    return "", manifest


def anatomy_fault(path: Path, manifest: Manifest) -> str:
    """Why a file is not the anatomy of the artifact that a manifest describes; '' where it is."""
    try:
        found = Anatomy.from_json(path.read_text(encoding="utf-8"))
    except (FormatError, UnicodeDecodeError) as error:
        return str(error)
    except OSError:
        return "is missing"
    return "" if found.sha256 == manifest.sha256 else "is of another artifact"
