"""What came of packing a checkpoint, and the artifact with its manifest on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgpack.calibration.calibration import Calibration
from pgpack.formats.own.manifest import Manifest, write_artifact_file
from pgpack.loss.evaluator import BitsPerByte, Evaluator
from pgpack.models.evidence import read_evidence
from pgpack.pack import Artifact
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import Recipe
from pgpack.version import __version__

from .workpiece import Workpiece


def evidence_of(bench: Workpiece) -> Mapping[str, Any] | None:
    """What tells which model the bench runs; None where it ran none: no text is opened for this."""
    return read_evidence(bench.text.model.evidence) if "text" in vars(bench) else None


@dataclass(frozen=True)
class Packed:
    """A recipe, its artifact, the calibration it used and the loss that was measured (None: not measured).

    `model`: what tells which model it is (`pgpack.models.evidence`), None where none was run.
    """

    recipe: Recipe
    artifact: Artifact
    calibration: Calibration | None
    loss: BitsPerByte | None
    evaluator: Evaluator | None
    model: Mapping[str, Any] | None


def needed_calibration(bench: Workpiece, recipe: Recipe) -> Calibration | None:
    """The calibration of `recipe`; None when none of its stages needs a Hessian."""
    return bench.calibration(recipe) if apply(recipe, bench.checkpoint.stored_shapes).needs_calibration else None


def write_packed(out: Path, packed: Packed, bench: Workpiece) -> Manifest:
    """Write the artifact and its manifest, which comes back."""
    artifact, recipe, calibration, loss = packed.artifact, packed.recipe, packed.calibration, packed.loss
    manifest = Manifest(
        recipe=str(recipe),
        recipe_canonical=recipe.canonical(),
        recipe_digest=recipe.digest,
        n_bytes=artifact.n_bytes,
        sha256=hashlib.sha256(artifact.data).hexdigest(),
        weights_digest=artifact.weights_digest,
        checkpoint_digest=bench.checkpoint.digest,
        n_params=bench.checkpoint.n_params,
        pgpack_version=__version__,
        calibration_digest=calibration.digest if calibration else None,
        calibration_token_digest=calibration.token_digest if calibration else None,
        calibration_n_tokens=calibration.n_tokens if calibration else None,
        evaluator_digest=packed.evaluator.digest if loss and packed.evaluator else None,
        bpb=loss.bpb if loss else None,
        nats=loss.nats if loss else None,
        kl=loss.kl if loss else None,
        model=packed.model,
        sizes={"tensors": dict(artifact.report.tensors), "overhead": dict(artifact.report.overhead)},
    )
    write_artifact_file(out, artifact.data, manifest)
    return manifest
