"""Where a packed model's loss comes from: one kind of tensor at a time, expected and measured.

    kind = names with their numbers left out (model.layers.*.mlp.up_proj.weight)
    expected    1/2 sum f e H e of the kind's tensors (`calibration.distortion`)
    measured    KL of the checkpoint with the kind's tensors alone as the artifact decodes them

Where both agree the second-order theory that allots the bits holds; where they do not, bits are in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.calibration.distortion import added_losses
from pgpack.calibration.inputs import in_order
from pgpack.errors import DataError
from pgpack.progress import shown
from pgpack.tensors.record import Record

from .packed import Packed
from .workpiece import Workpiece

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class KindLoss:
    """What a kind of tensor takes and costs. Units: bytes; nats per token. `expected`: None without statistics."""

    kind: str
    n_tensors: int
    n_values: int
    n_bytes: int
    expected: float | None
    measured: float


def kind_of(name: str, shape: Sequence[int]) -> str:
    """A tensor's name without its layer's number; vectors and scalars are one kind."""
    return _NUMBER.sub("*", name) if len(shape) > 1 else "vectors and scalars"


def kinds_of(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by their kind."""
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(kind_of(record.name, record.shape), []).append(record)
    return kinds


def require_text(bench: Workpiece) -> None:
    """Raises: DataError without validation text."""
    if not bench.has_text:
        raise DataError(
            "--explain-loss measures on validation text; give it as --text PATH, or --val and --tokenizer"
        )
    _ = bench.text


def explained(bench: Workpiece, packed: Packed) -> list[KindLoss]:
    """The loss of each kind of tensor that the artifact changes, the costliest first. Shape: as many as kinds.

    Raises: DataError without validation text (`require_text`).
    """
    artifact, recipe, evaluator = packed.artifact, packed.recipe, bench.evaluator
    ordered, _ = in_order(bench.checkpoint, None, recipe.order.by)
    exact = dict(ordered.items())
    losses, unit = added_losses(bench.checkpoint, artifact.records, recipe, packed.calibration)
    aliases = artifact.decoded.aliases
    kinds, found = kinds_of(artifact.records), []
    with shown(bench.progress, len(kinds), "kind", "measuring one kind at a time") as bar:
        for kind, records in kinds.items():
            told = [losses[record.name] for record in records if record.name in losses]
            found.append(
                KindLoss(
                    kind,
                    len(records),
                    sum(int(np.prod(record.shape)) for record in records),
                    sum(artifact.report.tensors[record.name] for record in records),
                    sum(told) if told and unit == "nats per token" else None,
                    evaluator.evaluate(with_decoded(exact, records, aliases)).kl or 0.0,
                )
            )
            bar.update()
    return sorted(found, key=lambda row: -row.measured)


def with_decoded(
    exact: Mapping[str, NDArray[Any]], records: Sequence[Record], aliases: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """The exact tensors, with these as they are decoded, under all their names."""
    decoded = {record.name: record.dequantize() for record in records}
    tied = {name: decoded[stored] for name, stored in aliases.items() if stored in decoded}
    return {**exact, **decoded, **tied}
