"""The per-group export: seven streams of int8 symbols, one per kind of matrix, each through lrzip; the rest brotli.

    "PGRP" | n u32 | n lengths u32 | tok_emb | c_k | c_q | c_v | attn.proj | mlp.fc | mlp.proj | rest | orders

A stream holds one kind of matrix, all layers in order, each transposed; rows of tok_emb, c_q and mlp.fc are first
sorted by similarity. `rest` is a torch.save of {'r', 'm', 's'}: every other tensor, the labels of `torch_sdclip`,
and the shapes of the streams' matrices, through the container's codecs. `orders` are the sorted rows as u16,
through brotli 11. A kind without matrices is an empty stream.
Source: openai/parameter-golf PR #1855.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs import BYTE_CODECS, SYMBOL_TRANSFORMS
from pgpack.codecs.base import ByteCodec
from pgpack.errors import CorruptArtifact, FormatError, RecipeError, TruncatedArtifact
from pgpack.formats.own.contents import Contents
from pgpack.formats.own.size_report import SizeReport, apportion
from pgpack.formats.torch_files.stored_tensor import StoredTensor
from pgpack.formats.torch_files.stream import load, pieces, scaffold
from pgpack.tensors.entropy import order0_bytes
from pgpack.tensors.record import Record

from .compressed import compress, decompress
from .shares import measured_report, merged
from .torch_baseline import DEFAULT_LIMIT
from .torch_sdclip import Entries, entries_of, records_of

NAME = "pergroup"
MARK = b"PGRP"
EMBEDDING = "_tok_emb.weight.q"
GROUPS = (
    EMBEDDING,
    "attn.c_k.weight.q",
    "attn.c_q.weight.q",
    "attn.c_v.weight.q",
    "attn.proj.weight.q",
    "mlp.fc.weight.q",
    "mlp.proj.weight.q",
)
SORTED_GROUPS = (EMBEDDING, "attn.c_q.weight.q", "mlp.fc.weight.q")
N_STREAMS = len(GROUPS) + 2
MAX_DIMENSIONS = 32
MAX_SORTED_ROWS = 1 << 16  # an order is stored as u16


@dataclass
class _Group:
    """Matrices of one kind on their way into a stream, by layer. `keys` are those of `w`."""

    keys: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    orders: list[bytes] = field(default_factory=list)


def group_of(key: str) -> tuple[str, int] | None:
    """(kind, layer) of a tensor's key in `w`, None when it belongs to the rest."""
    parts = key.split(".")
    if len(parts) > 2 and parts[0] == "blocks" and parts[1].isdecimal():
        kind = ".".join(parts[2:])
        return (kind, int(parts[1])) if kind in GROUPS else None
    return (EMBEDDING, 0) if "_" + key == EMBEDDING else None


def _grouped(entries: Entries) -> dict[str, _Group]:
    """The matrices of each kind, layer by layer."""
    groups = {kind: _Group() for kind in GROUPS}
    for kind, group in groups.items():
        for key in _keys_of(kind, entries.w):
            _append(group, kind, key, entries.w[key].array)
    return groups


def _keys_of(kind: str, keys: Iterable[str]) -> list[str]:
    """Those of one kind, by layer."""
    layers = {key: found[1] for key in keys if (found := group_of(key)) is not None and found[0] == kind}
    return sorted(layers, key=layers.__getitem__)


def _append(group: _Group, kind: str, key: str, symbols: NDArray[Any]) -> None:
    """One matrix at the end of its stream, sorted and transposed."""
    group.keys.append(key)
    group.shapes.append(tuple(symbols.shape))
    if symbols.ndim == 2:
        if kind in SORTED_GROUPS:
            if len(symbols) > MAX_SORTED_ROWS:
                raise RecipeError(f"{key}: {len(symbols)} rows; pergroup sorts {MAX_SORTED_ROWS} at most")
            symbols, order = SYMBOL_TRANSFORMS["row_sort"]().forward(symbols)
            group.orders.append(np.asarray(order).astype("<u2").tobytes())
        symbols = symbols.T
    group.chunks.append(np.ascontiguousarray(symbols).tobytes())


def _stream_reports(entries: Entries, groups: Mapping[str, _Group], streams: list[bytes]) -> list[SizeReport]:
    """Each stream's measured size on its own tensors, the row orders on the sorted ones, and the framing."""
    reports = [SizeReport({}, {"framing": 8 + 4 * N_STREAMS})]
    for group, stream in zip(groups.values(), streams, strict=False):
        costs = [order0_bytes(np.frombuffer(chunk, np.int8)) for chunk in group.chunks]
        reports += _charged([entries.owners[key] for key in group.keys], len(stream), costs)
    ordered = [key for group in groups.values() if group.orders for key in group.keys]
    rows = [float(len(entries.w[key].array)) for key in ordered]
    return [*reports, *_charged([entries.owners[key] for key in ordered], len(streams[-1]), rows)]


def _charged(owners: list[str], n_bytes: int, costs: list[float]) -> list[SizeReport]:
    shares = apportion(n_bytes, costs)
    return [SizeReport({owner: share}, {}) for owner, share in zip(owners, shares, strict=True)]


def framed(streams: list[bytes]) -> bytes:
    """The file of the streams."""
    lengths = [len(stream) for stream in streams]
    return MARK + struct.pack(f"<I{len(streams)}I", len(streams), *lengths) + b"".join(streams)


def unframed(data: bytes) -> list[bytes]:
    """The streams of a file. Raises a FormatError unless they fill it exactly."""
    head = 8 + 4 * N_STREAMS
    if data[:4] != MARK:
        raise FormatError(f"not a pergroup file: starts with {data[:4]!r}, expected {MARK!r}")
    if len(data) < head:
        raise TruncatedArtifact(f"the file has {len(data)} bytes; its frame alone takes {head}")
    n_streams, *lengths = struct.unpack_from(f"<{N_STREAMS + 1}I", data, 4)
    if n_streams != N_STREAMS:
        raise FormatError(f"{n_streams} streams, expected {N_STREAMS}")
    if head + sum(lengths) > len(data):
        raise TruncatedArtifact(f"the streams declare {head + sum(lengths)} bytes, the file has {len(data)}")
    if head + sum(lengths) < len(data):
        raise CorruptArtifact(f"{len(data) - head - sum(lengths)} bytes follow the last stream")
    ends = list(accumulate(lengths, initial=head))
    return [data[start:end] for start, end in pairwise(ends)]


def read(data: bytes, limit: int = DEFAULT_LIMIT) -> list[Record]:
    """The records of an artifact, in the order of its labels. Raises FormatError when it is not one.

    `limit`: the most bytes that anything may decode to.
    """
    streams = unframed(data)
    state = load(decompress(streams[-2], limit), limit)
    rest, labels, shapes = state.get("r"), state.get("m"), state.get("s")
    if not isinstance(rest, dict) or not isinstance(labels, dict) or not isinstance(shapes, dict):
        raise CorruptArtifact("the rest of a pergroup file lacks 'r', 'm' or 's'")
    orders = decompress(streams[-1], limit) if streams[-1] else b""
    w = dict(rest)
    all_keys = [f"{name}.q" for name, label in labels.items() if isinstance(label, str) and label.startswith("gptq")]
    for kind, stream in zip(GROUPS, streams, strict=False):
        keys = _keys_of(kind, all_keys)
        matrices, orders = _matrices(kind, stream, shapes.get(kind, []), orders, limit)
        if len(keys) != len(matrices):
            raise CorruptArtifact(f"{kind}: {len(matrices)} matrices for {len(keys)} names")
        w.update({key: StoredTensor("int8", matrix) for key, matrix in zip(keys, matrices, strict=True)})
    if orders:
        raise CorruptArtifact(f"{len(orders)} bytes of row orders are left over")
    return records_of(w, labels)


def _matrices(
    kind: str, stream: bytes, shapes: Any, orders: bytes, limit: int
) -> tuple[list[NDArray[np.int8]], bytes]:
    """The matrices of one stream, and the row orders that remain."""
    if not isinstance(shapes, list) or not all(_is_shape(shape) for shape in shapes):
        raise CorruptArtifact(f"{kind}: its shapes are not a list of shapes")
    sizes = [int(np.prod(shape, dtype=object)) for shape in shapes]
    if sum(sizes) > limit:
        raise FormatError(f"{kind}: {sum(sizes):,} symbols, above the limit of {limit:,} bytes")
    plain = np.frombuffer(BYTE_CODECS["lrzip"]().decode(stream, sum(sizes)), np.int8)
    matrices = []
    for shape, chunk in zip(shapes, np.split(plain, np.cumsum(sizes)[:-1]) if sizes else [], strict=True):
        if len(shape) != 2:
            matrices.append(chunk.reshape(shape))
            continue
        matrix = np.ascontiguousarray(chunk.reshape(shape[1], shape[0]).T)
        if kind in SORTED_GROUPS:
            if len(orders) < 2 * shape[0]:
                raise TruncatedArtifact(f"{kind}: the row orders end early")
            order, orders = np.frombuffer(orders[: 2 * shape[0]], "<u2"), orders[2 * shape[0] :]
            if not np.array_equal(np.sort(order), np.arange(shape[0])):
                raise CorruptArtifact(f"{kind}: a row order is not a permutation of {shape[0]} rows")
            unsorted = np.empty_like(matrix)
            unsorted[order] = matrix
            matrix = unsorted
        matrices.append(matrix)
    return matrices, orders


def _is_shape(shape: Any) -> bool:
    short = isinstance(shape, tuple) and len(shape) <= MAX_DIMENSIONS
    return short and all(type(length) is int and 0 <= length < 1 << 31 for length in shape)


@dataclass(frozen=True)
class Pergroup:
    """The per-group export of PR #1855: seven sorted and transposed int8 streams through lrzip, the rest brotli."""

    level: int = 9
    is_field: ClassVar[bool] = True

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        """The artifact and where its bytes went.

        Raises RecipeError on a record that the format cannot hold, ToolMissing without lrzip.
        """
        entries = entries_of(contents, NAME)
        groups = _grouped(entries)
        rest = {key: entries.w[key] for key in sorted(entries.w) if not group_of(key)}
        shapes = {kind: group.shapes for kind, group in groups.items() if group.keys}
        stream = pieces({"r": rest, "m": entries.m, "s": shapes})
        lrzip = BYTE_CODECS["lrzip"](level=self.level)
        streams = [lrzip.encode(b"".join(group.chunks)) for group in groups.values()]
        streams.append(compress(b"".join(stream), codecs, NAME))
        orders = b"".join(order for group in groups.values() for order in group.orders)
        streams.append(BYTE_CODECS["brotli"](quality=11).encode(orders) if orders else b"")
        zero = dict.fromkeys((record.name for record in contents.records), 0.0)
        rest_costs = Entries(rest, entries.m, entries.owners).costs(zero)
        n_serialization = len(compress(scaffold(stream), codecs, NAME))
        rest_report = measured_report(len(streams[-2]), n_serialization, rest_costs)
        return framed(streams), merged([rest_report, *_stream_reports(entries, groups, streams)])
