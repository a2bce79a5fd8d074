"""`pgpack inspect`: where the bytes of an artifact, or the values of a checkpoint, are."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.errors import FormatError
from pgpack.models.evidence import FOUND_KEY, evidence_lines, read_evidence
from pgpack.tables import clipped, counted, shape_text, table

from ..options.text import opening_options
from ..options.types import PATH, max_bytes_option
from ..screen.checkpoint import said_of_config
from ..screen.output import Screen, format_bytes, picked, screen_options

if TYPE_CHECKING:
    from pgpack.bench.options import Opening
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.inspect import ArtifactView, TensorBytes, TensorValues

TRANSFORMERS = ("format", "pt")  # in every .safetensors that it writes, whose format is not that
UNKNOWN = (
    "dialect unknown: its tensors are packed as they are; a loss needs --model FILE.py:build (pgpack init-adapter)"
)
BANKS = ": its banks are shown, and packed, as one matrix per layer"

EPILOG = """\b
Examples:
  pgpack inspect model.pgpack
  pgpack inspect final_model.int8.ptz --json
  pgpack inspect final_model.int6.ptz
  pgpack inspect model.safetensors
"""


@click.command("inspect", epilog=EPILOG)
@click.argument("file", type=PATH)
@opening_options
@max_bytes_option
@screen_options
def command(*, file: Path, opening: Opening, max_bytes: int | None, screen: Screen) -> None:
    """Where the bytes of FILE are: an artifact (ours or one of the field's) or a checkpoint.

    Artifact: bytes per tensor, largest first, and per coding stage; they sum to the file. Entropy is of order 0, in
    bits per symbol. How its model was found, where nobody named it. Checkpoint: shapes, roles, spread, tied names,
    and what its metadata says.
    """
    from pgpack.bench.artifact import ArtifactFile, open_either
    from pgpack.checkpoint.files import weight_files
    from pgpack.formats.own.manifest import read_manifest
    from pgpack.inspect import inspect_checkpoint

    found = open_either(file, opening.base, max_bytes, opening.key)
    if isinstance(found, ArtifactFile):
        view, manifest = found.inspect(), None
        with contextlib.suppress(FormatError):  # what lies beside may be anybody's
            manifest = read_manifest(file)
        tensors = sorted(view.tensors, key=lambda tensor: -tensor.n_bytes)
        own = manifest is not None and manifest.sha256 == hashlib.sha256(found.data).hexdigest()
        model = manifest.model if manifest and own else None
        said = [] if model is None else ["", *evidence_lines(model)]
        screen.show(_artifact_document(view, tensors) | {"model": model}, *_artifact_lines(view, tensors), *said)
    else:
        found = dataclasses.replace(found, notes=(*found.notes, *said_of_config(found)))
        rows = sorted(inspect_checkpoint(found), key=lambda row: -row.numel)
        n_bytes = sum(part.stat().st_size for part in weight_files(file))
        screen.show(_checkpoint_document(found, rows, n_bytes), *_checkpoint_lines(found, rows, n_bytes))


def _artifact_lines(view: ArtifactView, tensors: Sequence[TensorBytes]) -> Iterator[str]:
    rows: list[tuple[Any, ...]] = [
        (
            tensor.name,
            tensor.role,
            shape_text(tensor.shape),
            tensor.grid if tensor.form == "plain" else f"{tensor.form} {tensor.grid}",
            tensor.n_bytes,
            tensor.bits_per_weight,
            tensor.entropy,
        )
        for tensor in tensors
    ]
    rows += [(name, "overhead", "", "", n_bytes, None, None) for name, n_bytes in view.overhead.items()]
    yield table(("tensor", "role", "shape", "grid", "bytes", "bits/weight", "entropy"), rows)
    bits = f"{view.bits_per_weight:.3f} bits per weight"
    yield f"{view.kind}: {format_bytes(view.n_bytes)} in all, {view.numel:,} weights, {bits}"
    if view.kind != "pgpack":
        yield "one stream holds every tensor: the shares are estimates by order-0 entropy"
    if view.digest:
        yield f"weights digest {view.digest}"
    if view.companions:
        named = ", ".join(f"{name} {n_bytes:,}" for name, n_bytes in view.companions.items())
        packed, n_bytes = format_bytes(view.overhead["companions"]), sum(view.companions.values())
        yield f"companions {packed}, of {n_bytes:,} in {counted(len(view.companions), 'file')}: {named}"
    for alias, stored in view.aliases.items():
        yield f"{alias} is tied to {stored}"
    if view.stages:
        stages = [
            (
                each.stream,
                clipped(each.stage, 40),
                each.before,
                each.after,
                each.after / each.before if each.before else None,
            )
            for each in view.stages
        ]
        yield ""
        yield table(("stream", "stage", "bytes in", "bytes out", "ratio"), stages)


def _artifact_document(view: ArtifactView, tensors: Sequence[TensorBytes]) -> dict[str, Any]:
    return {
        **picked(view, "kind", "n_bytes", "numel", "bits_per_weight"),
        "shares": "measured" if view.kind == "pgpack" else "estimated",
        "weights_digest": view.digest,
        "tensors": [{**vars(tensor), **picked(tensor, "numel", "bits_per_weight")} for tensor in tensors],
        **picked(view, "overhead", "stages", "aliases", "companions"),
    }


def _checkpoint_lines(checkpoint: Checkpoint, rows: Sequence[TensorValues], n_bytes: int) -> Iterator[str]:
    cells = [
        (row.name, row.role, shape_text(row.shape), row.numel, row.std, row.absmax, row.alias_of) for row in rows
    ]
    yield table(("tensor", "role", "shape", "values", "std", "absmax", "tied to"), cells)
    n_params = checkpoint.n_params
    yield f"{n_params:,} parameters ({format_bytes(4 * n_params)} in fp32), file {format_bytes(n_bytes)}"
    if checkpoint.dialect == "unknown":
        yield UNKNOWN
    else:
        yield f"dialect {checkpoint.dialect}{BANKS if checkpoint.dialect.startswith('banked') else ''}"
    yield f"checkpoint digest {checkpoint.digest[:16]}"
    yield from checkpoint.notes
    for key, value in checkpoint.metadata.items():
        if (key, value) != TRANSFORMERS:
            yield f"{key:18} {clipped(value, 400)}"
    if (found := read_evidence(checkpoint.metadata.get(FOUND_KEY))) is not None:
        yield from evidence_lines(found)


def _checkpoint_document(checkpoint: Checkpoint, rows: Sequence[TensorValues], n_bytes: int) -> dict[str, Any]:
    return {
        "kind": "checkpoint",
        "n_bytes": n_bytes,
        **picked(checkpoint, "n_params", "dialect"),
        "checkpoint_digest": checkpoint.digest,
        "metadata": {key: _parsed(value) for key, value in checkpoint.metadata.items()},
        "tensors": [{**_finite(vars(row)), "numel": row.numel} for row in rows],
    }


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose numbers JSON knows: None for the others."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def _parsed(value: str) -> Any:
    """Metadata values are strings; those that are JSON objects are shown as such."""
    try:
        return json.loads(value) if value.startswith("{") else value
    except (ValueError, RecursionError):
        return value
