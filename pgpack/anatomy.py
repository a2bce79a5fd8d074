"""Where an artifact's bytes went and what they bought: tensor by tensor, layer by layer, stage by stage.

    header + manifest --> bytes and weights per tensor, bytes after each stage
    checkpoint + records + calibration --> the loss that quantizing each tensor adds (expected, not measured)

Kept as anatomy.json in the study of the artifact, so that its report needs no checkpoint. Nothing is decoded to read
an artifact of our own format. numpy only where losses are worked out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgpack.formats.own.layout import MAGIC, unframe
from pgpack.tensors.roles import role_of

from .errors import FormatError

FORMAT = "pgpack-anatomy-1"
SLOPE_BYTES = 1000  # of `TensorAnatomy.slope`
NUMBERED = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


def slope_of(loss: float, numel: int) -> float:
    """Loss that one more kilobyte (10^3 bytes) for `numel` weights of that expected loss would save.

    From loss ~ 2^(-2 bits per weight): 2 ln 2 * loss * bits / weights. Equal slopes are the best allocation.
    Source: Shoham and Gersho 1988.
    """
    return 2 * math.log(2) * loss * 8 * SLOPE_BYTES / max(1, numel)


@dataclass(frozen=True)
class TensorAnatomy:
    """One stored tensor. Units: `n_bytes` its share of the file; `loss` as `Anatomy.loss_unit`, None when unknown."""

    name: str
    shape: tuple[int, ...]
    n_bytes: int
    loss: float | None = None

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def role(self) -> str:
        return role_of(self.name, self.shape)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.n_bytes / max(1, self.numel)

    @property
    def layer(self) -> str:
        """The name up to its first number, such as `blocks.3`; '' for a tensor that is in no layer."""
        found = NUMBERED.search(self.name)
        return self.name[: found.end(1)] if found else ""

    @property
    def part(self) -> str:
        """What the tensor is within its layer: `attn.c_q`; outside of layers its name without `.weight`."""
        return self.name[len(self.layer) :].strip(".").removesuffix(".weight") or self.name

    @property
    def slope(self) -> float | None:
        """`slope_of` this tensor; None when its loss is unknown."""
        return None if self.loss is None or not self.numel else slope_of(self.loss, self.numel)


@dataclass(frozen=True)
class SizeStage:
    """Bytes of all tensors together once a stage is done."""

    name: str
    n_bytes: int


@dataclass(frozen=True)
class Anatomy:
    """An artifact taken apart. `stages` go from the fp32 weights to the whole file; `loss_unit` says what the
    tensors' `loss` is, '' when nothing was worked out. `sha256` is of the artifact file."""

    sha256: str
    n_bytes: int
    tensors: tuple[TensorAnatomy, ...]
    stages: tuple[SizeStage, ...]
    loss_unit: str = ""

    def to_json(self) -> str:
        """JSON text; `from_json` is its inverse."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Anatomy:
        """The anatomy that `to_json` wrote. Raises: FormatError for anything else."""
        try:
            row = json.loads(text)
            if row.pop("format", None) != FORMAT:
                raise FormatError(f"not an anatomy: its format is not {FORMAT}")
            tensors = tuple(
                TensorAnatomy(str(t["name"]), tuple(map(int, t["shape"])), int(t["n_bytes"]), _loss(t["loss"]))
                for t in row["tensors"]
            )
            stages = tuple(SizeStage(str(s["name"]), int(s["n_bytes"])) for s in row["stages"])
            return cls(str(row["sha256"]), int(row["n_bytes"]), tensors, stages, str(row["loss_unit"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise FormatError(f"the anatomy is not readable ({error})") from None


def _loss(value: Any) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError("a loss is not finite")
    return float(value)


def anatomy(
    data: bytes, n_bytes_of: Mapping[str, int], losses: Mapping[str, float] | None = None, loss_unit: str = ""
) -> Anatomy:
    """The anatomy of an artifact in any known format.

    `n_bytes_of`: name -> share of the file, as in its manifest. Raises: FormatError when the artifact is damaged.
    """
    if data[:4] == MAGIC[: len(data)]:
        shapes, stages = _own_format(unframe(data)[0])
    else:
        shapes, stages = _field_format(data)
    losses = losses or {}
    tensors = tuple(
        TensorAnatomy(name, shape, n_bytes_of[name], losses.get(name))
        for name, shape in shapes.items()
        if name in n_bytes_of
    )
    fp32 = SizeStage("fp32 weights", 4 * sum(math.prod(shape) for shape in shapes.values()))
    ladder = (fp32, *stages, SizeStage("the whole file", len(data)))
    return Anatomy(hashlib.sha256(data).hexdigest(), len(data), tensors, ladder, loss_unit if losses else "")


def _own_format(header: Mapping[str, Any]) -> tuple[dict[str, tuple[int, ...]], tuple[SizeStage, ...]]:
    try:
        shapes = {str(name): tuple(shape) for name, shape, _, _ in header["tensors"]}
        symbols = sum(
            _n_bytes(part[2], part[3]) + sum(_n_bytes(dtype, shape) for _, dtype, shape in part[5])
            for *_, parts in header["tensors"]
            for part in parts
        )
        chains = [lengths for _, _, lengths in header["streams"]] + [header["side"][1]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"the header does not describe an artifact ({error})") from None
    stages = [
        SizeStage("quantized, as integers", symbols),
        SizeStage("entropy coded", sum(lengths[0] for lengths in chains)),
        SizeStage("byte codecs", sum(lengths[-1] for lengths in chains)),
    ]
    return shapes, tuple(stages)


def _n_bytes(dtype: str, shape: Sequence[int]) -> int:
    return int(dtype[-1]) * math.prod(shape)


def _field_format(data: bytes) -> tuple[dict[str, tuple[int, ...]], tuple[SizeStage, ...]]:
    """A field's file is one stream: what lies between its integers and the file is its codec's secret."""
    from .unpack import unpack

    records = unpack(data).records
    symbols = sum(
        part.symbols.nbytes + sum(array.nbytes for array in part.grid.arrays.values())
        for record in records
        for part in record.parts
    )
    return {record.name: record.shape for record in records}, (SizeStage("quantized, as integers", symbols),)
