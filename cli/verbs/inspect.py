"""`pgpack inspect`: where the bytes of an artifact, or the values of a checkpoint, are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.tables import clipped, shape_text, table

from ..options.text import base_option
from ..screen.output import emit_json, format_bytes, shared_options

if TYPE_CHECKING:
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.inspect import ArtifactView, TensorValues

_BANKS = ": its banks are shown, and packed, as one matrix per layer"

EPILOG = """\b
Examples:
  pgpack inspect model.pgpack
  pgpack inspect final_model.int8.ptz --json
  pgpack inspect final_model.int6.ptz
  pgpack inspect model.safetensors
"""


@click.command("inspect", epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@base_option
@shared_options
def command(*, file: Path, base: str | None, as_json: bool, quiet: bool) -> None:
    """Where the bytes of FILE are: an artifact (ours or one of the field's) or a checkpoint.

    Artifact: bytes per tensor, largest first, and per coding stage; they sum to the file. Entropy is of order 0, in
    bits per symbol. Checkpoint: shapes, roles, spread, tied names, and what its metadata says.
    """
    from pgpack.bench.artifact import ArtifactFile, open_either
    from pgpack.inspect import inspect_artifact, inspect_checkpoint

    found = open_either(file, base)
    if isinstance(found, ArtifactFile):
        view = inspect_artifact(found.data, found.unpacked)
        emit_json(_artifact_document(view)) if as_json else click.echo(_artifact_text(view))
        return
    rows = inspect_checkpoint(found)
    emit_json(_checkpoint_document(found, rows, file)) if as_json else click.echo(_checkpoint_text(found, rows, file))


def _artifact_text(view: ArtifactView) -> str:
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
        for tensor in sorted(view.tensors, key=lambda tensor: -tensor.n_bytes)
    ]
    rows += [(name, "overhead", "", "", n_bytes, None, None) for name, n_bytes in view.overhead.items()]
    lines = [table(("tensor", "role", "shape", "grid", "bytes", "bits/weight", "entropy"), rows)]
    lines.append(
        f"{view.kind}: {format_bytes(view.n_bytes)} in all, {view.numel:,} weights, "
        f"{view.bits_per_weight:.3f} bits per weight"
    )
    if view.kind != "pgpack":
        lines.append("one stream holds every tensor: the shares are estimates by order-0 entropy")
    if view.digest:
        lines.append(f"weights digest {view.digest}")
    if view.companions:
        named = ", ".join(f"{name} {n_bytes:,}" for name, n_bytes in view.companions.items())
        packed = format_bytes(view.overhead["companions"])
        lines.append(
            f"companions {packed}, of {sum(view.companions.values()):,} in {len(view.companions)} files: {named}"
        )
    lines += [f"{alias} is tied to {stored}" for alias, stored in view.aliases.items()]
    if view.stages:
        stages = [
            (
                stage.stream,
                clipped(stage.stage, 40),
                stage.before,
                stage.after,
                stage.after / stage.before if stage.before else None,
            )
            for stage in view.stages
        ]
        lines += ["", table(("stream", "stage", "bytes in", "bytes out", "ratio"), stages)]
    return "\n".join(lines)


def _artifact_document(view: ArtifactView) -> dict[str, Any]:
    return {
        "kind": view.kind,
        "n_bytes": view.n_bytes,
        "numel": view.numel,
        "bits_per_weight": view.bits_per_weight,
        "shares": "measured" if view.kind == "pgpack" else "estimated",
        "weights_digest": view.digest,
        "tensors": [
            {**dataclasses.asdict(tensor), "numel": tensor.numel, "bits_per_weight": tensor.bits_per_weight}
            for tensor in sorted(view.tensors, key=lambda tensor: -tensor.n_bytes)
        ],
        "overhead": view.overhead,
        "stages": [dataclasses.asdict(stage) for stage in view.stages],
        "aliases": view.aliases,
        "companions": dict(view.companions),
    }


def _checkpoint_text(checkpoint: Checkpoint, rows: Sequence[TensorValues], file: Path) -> str:
    cells = [
        (row.name, row.role, shape_text(row.shape), row.numel, row.std, row.absmax, row.alias_of)
        for row in sorted(rows, key=lambda row: -row.numel)
    ]
    lines = [table(("tensor", "role", "shape", "values", "std", "absmax", "tied to"), cells)]
    n_params = checkpoint.n_params
    lines.append(
        f"{n_params:,} parameters ({format_bytes(4 * n_params)} in fp32), file {format_bytes(_n_bytes(file))}"
    )
    lines.append(f"dialect {checkpoint.dialect}{_BANKS if checkpoint.dialect.startswith('banked') else ''}")
    lines.append(f"checkpoint digest {checkpoint.digest[:16]}")
    lines += checkpoint.notes
    lines += [f"{key:18} {clipped(value, 400)}" for key, value in checkpoint.metadata.items()]
    return "\n".join(lines)


def _checkpoint_document(checkpoint: Checkpoint, rows: Sequence[TensorValues], file: Path) -> dict[str, Any]:
    return {
        "kind": "checkpoint",
        "n_bytes": _n_bytes(file),
        "n_params": checkpoint.n_params,
        "dialect": checkpoint.dialect,
        "checkpoint_digest": checkpoint.digest,
        "metadata": {key: _parsed(value) for key, value in checkpoint.metadata.items()},
        "tensors": [
            {**dataclasses.asdict(row), "numel": row.numel} for row in sorted(rows, key=lambda row: -row.numel)
        ],
    }


def _n_bytes(file: Path) -> int:
    """Of the weights, all shards together."""
    from pgpack.checkpoint.files import weight_files

    return sum(part.stat().st_size for part in weight_files(file))


def _parsed(value: str) -> Any:
    """Metadata values are strings; those that are JSON objects are shown as such."""
    try:
        return json.loads(value) if value.startswith("{") else value
    except ValueError:
        return value
