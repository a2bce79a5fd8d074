"""Where the bytes of an artifact or the values of a checkpoint are: rows for `pgpack inspect`.

Of our own format every byte is accounted for from the file alone, with the same shares that the packer reported.
The field's formats compress everything in one stream: there the shares are estimates by order-0 entropy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.formats.own.layout import MAGIC, PREFIX_LEN, unframe
from pgpack.formats.own.reader import read_artifact
from pgpack.formats.own.size_report import SizeReport, apportion
from pgpack.tensors.entropy import order0_bits
from pgpack.tensors.record import Record
from pgpack.tensors.roles import role_of

from .codecs import CODERS, SYMBOL_TRANSFORMS
from .stages import parse_stage
from .unpack import Unpacked, unpack


@dataclass(frozen=True)
class TensorBytes:
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
    def numel(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

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
    """An artifact taken apart. `overhead`: bytes that belong to no tensor, by name; everything sums to `n_bytes`."""

    kind: str
    n_bytes: int
    tensors: tuple[TensorBytes, ...]
    overhead: dict[str, int]
    stages: tuple[Stage, ...]
    aliases: dict[str, str]
    digest: str

    @property
    def numel(self) -> int:
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """The whole file, overhead included, over all stored weights."""
        return 8 * self.n_bytes / max(1, self.numel)


def inspect_artifact(data: bytes, decode: Callable[[], Unpacked] | None = None) -> ArtifactView:
    """The parts of an artifact of any known format. Raises FormatError or one of its kinds.

    `decode`: what `unpack(data)` gives, where the caller has it already.
    """
    if data[:4] == MAGIC[: len(data)]:
        return _own_format(data)
    unpacked = decode() if decode else unpack(data)
    costs = {record.name: sum(order0_bits(part) for part in record.parts) for record in unpacked.records}
    shares = dict(zip(costs, apportion(len(data), list(costs.values())), strict=True))
    rows = tuple(_tensor_bytes(record, shares[record.name]) for record in unpacked.records)
    overhead = {} if rows else {"serialization": len(data)}
    return ArtifactView(unpacked.kind, len(data), rows, overhead, (), dict(unpacked.aliases), unpacked.digest)


def _own_format(data: bytes) -> ArtifactView:
    decoded = read_artifact(data)
    header = unframe(data)[0]
    report = size_report(header, decoded.records, len(data), decoded.n_header_bytes)
    rows = tuple(_tensor_bytes(record, report.tensors[record.name]) for record in decoded.records)
    return ArtifactView(
        "pgpack", len(data), rows, dict(report.overhead), tuple(_stages(header, decoded.records)),
        dict(decoded.aliases), decoded.digest,
    )  # fmt: skip


def _tensor_bytes(record: Record, n_bytes: int) -> TensorBytes:
    n_symbols = sum(int(part.symbols.size) for part in record.parts)
    bits = sum(order0_bits(part) for part in record.parts)
    grids = "+".join(_grid_text(part.grid) for part in record.parts)
    entropy = bits / max(1, n_symbols)
    return TensorBytes(
        record.name, role_of(record.name, record.shape), record.shape, record.form, grids, n_bytes, n_symbols, entropy
    )


def _grid_text(grid: Any) -> str:
    """The grid's kind, with the dtype of raw values: `uniform`, `codebook`, `fp16`."""
    return str(grid.params.get("dtype", grid.kind)) if grid.kind == "raw" else str(grid.kind)


def size_report(header: dict[str, Any], records: tuple[Record, ...], n_bytes: int, n_header_bytes: int) -> SizeReport:
    """The packer's own size report, worked out again from a decoded artifact of our format."""
    shares = {record.name: 0 for record in records}
    owners, arrays, side_owners, side_bytes = _stream_contents(header, records)
    for (coder_text, _, lengths), names, symbols in zip(header["streams"], owners, arrays, strict=True):
        costs = parse_stage(coder_text, CODERS).ideal_bits(symbols)
        for name, share in zip(names, apportion(lengths[-1], costs), strict=True):
            shares[name] += share
    side_total = header["side"][1][-1]
    for name, share in zip(side_owners, apportion(side_total, side_bytes), strict=True):
        shares[name] += share
    overhead = {"header": n_header_bytes, "integrity": PREFIX_LEN + 4}
    if leftover := n_bytes - sum(shares.values()) - sum(overhead.values()):
        overhead["empty streams"] = leftover
    return SizeReport(shares, overhead)


def _stream_contents(
    header: dict[str, Any], records: tuple[Record, ...]
) -> tuple[list[list[str]], list[list[NDArray[Any]]], list[str], list[float]]:
    """(owners, coded symbol arrays) of every stream, then owners and sizes of the side arrays, in file order."""
    n_streams = len(header["streams"])
    owners: list[list[str]] = [[] for _ in range(n_streams)]
    arrays: list[list[NDArray[Any]]] = [[] for _ in range(n_streams)]
    side_owners: list[str] = []
    side_bytes: list[float] = []
    for (name, _, _, entries), record in zip(header["tensors"], records, strict=True):
        for entry, part in zip(entries, record.parts, strict=True):
            stream, described, *rest = entry[4:]
            symbols = part.symbols
            for text in rest[0] if rest else []:
                symbols, _ = parse_stage(text, SYMBOL_TRANSFORMS).forward(symbols)
            owners[stream].append(name)
            arrays[stream].append(symbols)
            for _, dtype, shape in described:
                side_owners.append(name)
                side_bytes.append(float(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64)))
    return owners, arrays, side_owners, side_bytes


def _stages(header: dict[str, Any], records: tuple[Record, ...]) -> Iterator[Stage]:
    """Each stage of each stream with its bytes before and after, the side stream last."""
    _, arrays, _, side_bytes = _stream_contents(header, records)
    for index, ((coder, codecs, lengths), symbols) in enumerate(zip(header["streams"], arrays, strict=True)):
        before = sum(array.nbytes for array in symbols)
        for stage, after in zip([coder, *codecs], lengths, strict=True):
            yield Stage(f"stream {index}", stage, before, after)
            before = after
    codecs, lengths = header["side"]
    before = int(sum(side_bytes))
    for stage, after in zip(codecs, lengths[1:], strict=True):
        yield Stage("side", stage, before, after)
        before = after
