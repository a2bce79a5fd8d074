"""Where the bytes of an artifact are and what they bought: tensor by tensor, stage by stage.

    artifact --decode--> ArtifactView: bytes per tensor, after each stage of each stream      `pgpack inspect`
    header + manifest (+ losses) --> Anatomy: bytes and loss per tensor, after each stage     a study's anatomy.json
    checkpoint --> TensorValues: shapes, roles and spread                                     `pgpack inspect`

Of our own format every byte is accounted for from the file alone, with the same shares that the packer reported; its
anatomy needs no decoding. The field's formats compress everything in one stream: there the shares are estimates by
order-0 entropy. An anatomy is kept beside its artifact, so that a report needs no checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.formats.own.header import Header
from pgpack.formats.own.layout import MAGIC, header_length, unframe
from pgpack.formats.own.reader import coded_arrays
from pgpack.formats.own.size_report import Charge, SizeReport, apportion, file_report
from pgpack.recipe.selector import TensorInfo
from pgpack.tensors.entropy import order0_bits
from pgpack.tensors.record import Record
from pgpack.tensors.roles import Shaped, role_of, roles_of

from .codecs import CODERS
from .errors import FormatError
from .files import checked_json, with_checksum
from .stages import parse_stage
from .unpack import Unpacked, unpack

ANATOMY_FORMAT = "pgpack-anatomy-1"
_Contents = tuple[list[str], list[NDArray[Any]]]  # of a stream: the tensor that each array belongs to, the arrays
SLOPE_BYTES = 1000  # of `TensorAnatomy.slope`
NUMBERED = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


@dataclass(frozen=True)
class TensorBytes(Shaped):
    """One stored tensor of an artifact.

    Units: `n_bytes` its share of the file; `entropy` order-0 bits per symbol over all its parts (estimate of what
    a memoryless coder would need).
    """

    name: str
    role: str
    shape: tuple[int, ...]
    form: str
    grid: str
    n_bytes: int
    n_symbols: int
    entropy: float

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.n_bytes / max(1, self.numel)


@dataclass(frozen=True)
class Stage:
    """What one stage of a stream was given and what it left. Units: bytes."""

    stream: str
    stage: str
    before: int
    after: int


@dataclass(frozen=True)
class ArtifactView:
    """An artifact taken apart. `overhead`: bytes that belong to no tensor, by name; everything sums to `n_bytes`.
    `companions`: file name -> its size, before all of them were packed together."""

    kind: str
    n_bytes: int
    tensors: tuple[TensorBytes, ...]
    overhead: dict[str, int]
    stages: tuple[Stage, ...]
    aliases: dict[str, str]
    digest: str
    companions: Mapping[str, int] = field(default_factory=dict)

    @property
    def numel(self) -> int:
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """The whole file, overhead included, over all stored weights."""
        return 8 * self.n_bytes / max(1, self.numel)


def inspect_artifact(data: bytes, unpacked: Unpacked | None = None) -> ArtifactView:
    """The parts of an artifact of any known format. Raises FormatError or one of its kinds.

    `unpacked`: what `unpack(data)` gives, where the caller has it already.
    """
    unpacked = unpacked or unpack(data)
    stages: tuple[Stage, ...] = ()
    if unpacked.header:
        streams = _contents(data, unpacked.header, unpacked.records)
        report, stages = _size_report(unpacked.header, streams, data), tuple(_stages(unpacked.header, streams))
    else:
        costs = {record.name: sum(order0_bits(part) for part in record.parts) for record in unpacked.records}
        shares = dict(zip(costs, apportion(len(data), list(costs.values())), strict=True))
        report = SizeReport(shares, {} if shares else {"serialization": len(data)})
    rows = tuple(_tensor_bytes(record, report.tensors[record.name]) for record in unpacked.records)
    companions = {name: len(contents) for name, contents in unpacked.companions.items()}
    about = (dict(unpacked.aliases), unpacked.digest, companions)
    return ArtifactView(unpacked.kind, len(data), rows, dict(report.overhead), stages, *about)


def _tensor_bytes(record: Record, n_bytes: int) -> TensorBytes:
    n_symbols = sum(int(part.symbols.size) for part in record.parts)
    bits = sum(order0_bits(part) for part in record.parts)
    grids = "+".join(getattr(part.grid, "dtype", part.grid.kind) for part in record.parts)  # raw values: their dtype
    entropy = bits / max(1, n_symbols)
    return TensorBytes(
        record.name, role_of(record.name, record.shape), record.shape, record.form, grids, n_bytes, n_symbols, entropy
    )


def _contents(data: bytes, header: Header, records: Sequence[Record]) -> list[_Contents]:
    """The coded symbols of every stream, in file order."""
    owners: list[list[str]] = [[] for _ in header.streams]
    for tensor, part in header.parts:
        owners[part.stream].append(tensor.name)
    return list(zip(owners, coded_arrays(data, header, records), strict=True))


def _size_report(header: Header, streams: Sequence[_Contents], data: bytes) -> SizeReport:
    """The packer's own size report, worked out again."""
    charges = [
        Charge(stream.n_bytes, owners, parse_stage(stream.coder, CODERS).ideal_bits(arrays))
        for stream, (owners, arrays) in zip(header.streams, streams, strict=True)
    ]
    side = [(tensor.name, layout.n_bytes) for tensor, part in header.parts for _, layout in part.arrays]
    charges.append(Charge(header.side.n_bytes, [name for name, _ in side], [n_bytes for _, n_bytes in side]))
    names = [tensor.name for tensor in header.tensors]
    n_companion_bytes = header.companions.stream.n_bytes if header.companions else 0
    return file_report(names, charges, len(data), header_length(data), n_companion_bytes)


def _stages(header: Header, streams: Sequence[_Contents]) -> Iterator[Stage]:
    """Each stage of each stream with its bytes before and after, side stream and companions last."""
    for index, (stream, (_, arrays)) in enumerate(zip(header.streams, streams, strict=True)):
        lengths = (sum(array.nbytes for array in arrays), *stream.lengths)
        for stage, (before, after) in zip((stream.coder, *stream.codecs), pairwise(lengths), strict=True):
            yield Stage(f"stream {index}", stage, before, after)
    chains = {"side": header.side} | ({"companions": header.companions.stream} if header.companions else {})
    for name, chain in chains.items():
        for stage, (before, after) in zip(chain.codecs, pairwise(chain.lengths), strict=True):
            yield Stage(name, stage, before, after)


def slope_of(loss: float, numel: int) -> float:
    """Loss that one more kilobyte (10^3 bytes) for `numel` weights of that expected loss would save.

    From loss ~ 2^(-2 bits per weight): 2 ln 2 * loss * bits / weights. Equal slopes are the best allocation.
    Source: Shoham and Gersho 1988.
    """
    return 2 * math.log(2) * loss * 8 * SLOPE_BYTES / max(1, numel)


@dataclass(frozen=True)
class TensorAnatomy(TensorInfo):
    """One stored tensor. Units: `n_bytes` its share of the file; `loss` as `Anatomy.loss_unit`, None when unknown."""

    n_bytes: int
    loss: float | None = None

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
        row = {"format": ANATOMY_FORMAT, **dataclasses.asdict(self)}
        return with_checksum(json.dumps(row, allow_nan=False)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Anatomy:
        """The anatomy that `to_json` wrote, of older programs too, which wrote no checksum. Raises: FormatError for
        anything else."""
        try:
            row = checked_json(text)
            if row.pop("format", None) != ANATOMY_FORMAT:
                raise FormatError(f"not an anatomy: its format is not {ANATOMY_FORMAT}")
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
    own = data[:4] == MAGIC[: len(data)]
    shapes, stages = _own_ladder(data) if own else _field_ladder(data)
    losses = losses or {}
    tensors = tuple(
        TensorAnatomy(name, shape, n_bytes_of[name], losses.get(name))
        for name, shape in shapes.items()
        if name in n_bytes_of
    )
    fp32 = SizeStage("fp32 weights", 4 * sum(math.prod(shape) for shape in shapes.values()))
    ladder = (fp32, *stages, SizeStage("the whole file", len(data)))
    return Anatomy(hashlib.sha256(data).hexdigest(), len(data), tensors, ladder, loss_unit if losses else "")


def _own_ladder(data: bytes) -> tuple[dict[str, tuple[int, ...]], tuple[SizeStage, ...]]:
    """Shapes of the tensors, and the stages between the weights and the file, from the header alone."""
    header = Header.from_json(unframe(data)[0])
    chains = (*header.streams, header.side)
    return {tensor.name: tensor.shape for tensor in header.tensors}, (
        SizeStage("quantized, as integers", sum(part.layout.n_bytes + part.n_side_bytes for _, part in header.parts)),
        SizeStage("entropy coded", sum(chain.lengths[0] for chain in chains)),
        SizeStage("byte codecs", sum(chain.n_bytes for chain in chains)),
    )


def _field_ladder(data: bytes) -> tuple[dict[str, tuple[int, ...]], tuple[SizeStage, ...]]:
    """A field's file is one stream: what lies between its integers and the file is its codec's secret."""
    records = unpack(data).records
    symbols = sum(
        part.symbols.nbytes + sum(array.nbytes for array in part.grid.arrays.values())
        for record in records
        for part in record.parts
    )
    return {record.name: record.shape for record in records}, (SizeStage("quantized, as integers", symbols),)


@dataclass(frozen=True)
class TensorValues(Shaped):
    """One tensor of a checkpoint; `alias_of` names the tensor it is tied to, '' when it stands alone."""

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    std: float
    absmax: float
    alias_of: str


def inspect_checkpoint(checkpoint: Checkpoint) -> tuple[TensorValues, ...]:
    """A row for every tensor. Raises CheckpointError on NaN or infinity."""
    roles = roles_of(checkpoint.shapes)
    return tuple(_tensor_values(checkpoint, name, roles[name], array) for name, array in checkpoint.items())


def _tensor_values(checkpoint: Checkpoint, name: str, role: str, array: NDArray[Any]) -> TensorValues:
    values = array.astype(np.float64) if array.dtype.kind == "b" else array
    finite = values if np.isfinite(values).all() else values[np.isfinite(values)]  # a mask has -inf
    wide = np.complex128 if values.dtype.kind == "c" else np.float64
    with np.errstate(over="ignore", invalid="ignore"):  # of complex values beyond what squares may be
        std = float(finite.std(dtype=wide).real) if finite.size else 0.0
    absmax = float(np.abs(finite).max()) if finite.size else 0.0
    shape = checkpoint.shapes[name]
    alias_of = checkpoint.aliases.get(name, "")
    return TensorValues(name, role, shape, array.dtype.name, std, absmax, alias_of)
