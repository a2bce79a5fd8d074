"""Records -> artifact bytes in our own format (FORMAT.md). Deterministic: equal contents give equal bytes.

records --symbol transforms--> symbols --coder (one call per stream)--> bytes --byte codecs--> stream
side arrays (scales, tables, permutations) --concatenated--> raw bytes --container codecs--> side stream
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.codecs.base import ByteCodec
from pgpack.stages import Table, stage_text
from pgpack.tensors.record import Record

from .contents import Contents
from .layout import PREFIX_LEN, frame
from .size_report import SizeReport, apportion

DIGEST_CHARS = 16


def weights_digest(records: Iterable[Record], aliases: Mapping[str, str]) -> str:
    """sha256 hex over name, dtype, shape and contents of every decoded tensor, by name, then the aliases."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda record: record.name):
        values = record.dequantize()
        digest.update(f"{record.name}\0{values.dtype.str}{tuple(record.shape)}\0".encode())
        digest.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
    for name, stored in aliases.items():
        digest.update(f"{name}\0={stored}\0".encode())
    return digest.hexdigest()


@dataclass
class _Stream:
    """Arrays on their way into one stream, with the tensor that each belongs to."""

    coder: Any
    codecs: tuple[ByteCodec, ...]
    arrays: list[NDArray[Any]] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)


def write_artifact(contents: Contents, side_codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
    """The artifact's bytes and where they went."""
    streams: dict[tuple[Any, ...], _Stream] = {}
    side: list[tuple[str, bytes]] = []
    tensors = [_describe(record, contents.coding[record.name], streams, side) for record in contents.records]
    shares = dict.fromkeys((record.name for record in contents.records), 0)
    chunks, specs = [], []
    for stream in streams.values():
        encoded = contents.encode_stream(stream.coder, stream.codecs, stream.arrays)
        chunks.append(encoded.data)
        names = [_text(codec, BYTE_CODECS) for codec in stream.codecs]
        specs.append([_text(stream.coder, CODERS), names, list(encoded.lengths)])
        _charge(shares, stream.owners, apportion(len(encoded.data), encoded.ideal_bits))
    joined = np.frombuffer(b"".join(piece for _, piece in side), np.uint8)
    encoded = contents.encode_stream(CODERS["raw"](), side_codecs, [joined])
    chunks.append(encoded.data)
    _charge(shares, [owner for owner, _ in side], apportion(len(encoded.data), [len(piece) for _, piece in side]))
    header = {
        "tensors": tensors,
        "streams": specs,
        "side": [[_text(codec, BYTE_CODECS) for codec in side_codecs], list(encoded.lengths)],
        "digest": weights_digest(contents.records, contents.aliases)[:DIGEST_CHARS],
    }
    if contents.aliases:
        header["aliases"] = dict(contents.aliases)
    body = b"".join(chunks)
    framed = frame(header, body)
    overhead = {"header": len(framed) - len(body) - PREFIX_LEN - 4, "integrity": PREFIX_LEN + 4}
    leftover = len(body) - sum(shares.values())
    if leftover:
        overhead["empty streams"] = leftover
    return framed, SizeReport(shares, overhead)


def _text(stage: Any, table: Table) -> str:
    return stage_text(table.name_of(stage), stage, omit=stage.encoder_only)


def _charge(shares: dict[str, int], owners: Sequence[str], n_bytes: Sequence[int]) -> None:
    for owner, share in zip(owners, n_bytes, strict=True):
        shares[owner] += share


def _describe(
    record: Record, coding: Any, streams: dict[tuple[Any, ...], _Stream], side: list[tuple[str, bytes]]
) -> list[Any]:
    """The header entry of a record; its symbols and side arrays are added to `streams` and `side`."""
    key = (coding.coder, coding.byte_codecs)
    stream = streams.setdefault(key, _Stream(coding.coder, coding.byte_codecs))
    index = list(streams).index(key)
    parts = []
    for part in record.parts:
        symbols, arrays = part.symbols, dict(part.grid.arrays)
        names = []
        for i, transform in enumerate(coding.symbol_transforms):
            symbols, extra = transform.forward(symbols)
            names.append(_text(transform, SYMBOL_TRANSFORMS))
            if extra is not None:
                arrays[f"@{i}"] = extra
        stream.arrays.append(symbols)
        stream.owners.append(record.name)
        entry: list[Any] = [part.grid.kind, part.grid.params, _dtype(symbols), list(symbols.shape), index]
        entry.append([[name, _dtype(array), list(array.shape)] for name, array in arrays.items()])
        if names or part.shape != record.shape:
            entry.append(names)
        if part.shape != record.shape:
            entry.append(list(part.shape))
        side.extend((record.name, _bytes(array)) for array in arrays.values())
        parts.append(entry)
    return [record.name, list(record.shape), record.form, parts]


def _dtype(array: NDArray[Any]) -> str:
    return str(array.dtype.newbyteorder("<").str)


def _bytes(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


@dataclass(frozen=True)
class Pgpack:
    """Our own format."""

    is_field: ClassVar[bool] = False

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        return write_artifact(contents, codecs)
