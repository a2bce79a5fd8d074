"""Records -> artifact bytes in our own format (FORMAT.md). Deterministic: equal contents give equal bytes.

records --symbol transforms--> symbols --coder (one call per stream)--> bytes --byte codecs--> stream
side arrays (scales, tables, permutations) --concatenated--> raw bytes --container codecs--> side stream
companions (config, tokenizer) --concatenated--> raw bytes --the best codecs--> the last stream, where there are any
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.codecs.base import ByteCodec, SymbolLayout
from pgpack.codecs.fixed_width import little_endian
from pgpack.stages import Table, stage_text
from pgpack.tensors.record import Record

from .companions import CODECS, encode_companions
from .contents import Contents
from .header import Header, StoredCompanions, StoredPart, StoredTensor, Stream
from .layout import frame, header_length
from .size_report import Charge, SizeReport, file_report

DIGEST_CHARS = 16


@dataclass
class _Stream:
    """Arrays on their way into one stream, with the tensor that each belongs to."""

    coder: Any
    codecs: tuple[ByteCodec, ...]
    arrays: list[NDArray[Any]] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)

    def add_(self, array: NDArray[Any], owner: str) -> None:
        self.arrays.append(array)
        self.owners.append(owner)


def _text(stage: Any, table: Table) -> str:
    return stage_text(table.name_of(stage), stage, omit=stage.encoder_only)


def _codec_texts(codecs: Iterable[ByteCodec], table: Table = BYTE_CODECS) -> tuple[str, ...]:
    return tuple(_text(codec, table) for codec in codecs)


def _stored(record: Record, coding: Any, filling: dict[tuple[Any, ...], _Stream], side: _Stream) -> StoredTensor:
    """A record as the header describes it; its symbols and side arrays are added to `filling` and `side`."""
    key = (coding.coder, coding.byte_codecs)
    stream = filling.setdefault(key, _Stream(coding.coder, coding.byte_codecs))
    number = list(filling).index(key)
    parts = []
    for part in record.parts:
        symbols, arrays, names = part.symbols, dict(part.grid.arrays), []
        for i, transform in enumerate(coding.symbol_transforms):
            symbols, extra = transform.forward(symbols)
            names.append(_text(transform, SYMBOL_TRANSFORMS))
            if extra is not None:
                arrays[f"@{i}"] = extra
        stream.add_(symbols, record.name)
        for array in arrays.values():
            side.add_(little_endian(array), record.name)
        layouts = tuple((name, _layout(array)) for name, array in arrays.items())
        entry = (_layout(symbols), number, layouts, tuple(names), tuple(part.shape))
        parts.append(StoredPart(part.grid.kind, part.grid.params, *entry))
    return StoredTensor(record.name, tuple(record.shape), record.form, tuple(parts))


def _layout(array: NDArray[Any]) -> SymbolLayout:
    return SymbolLayout(tuple(array.shape), array.dtype.newbyteorder("<").str)


@dataclass(frozen=True)
class Pgpack:
    """Our own format."""

    is_field: ClassVar[bool] = False

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        """The artifact's bytes and where they went; `codecs` are those of the side stream."""
        filling: dict[tuple[Any, ...], _Stream] = {}
        side = _Stream(CODERS["raw"](), codecs)
        tensors = tuple(_stored(record, contents.coding[record.name], filling, side) for record in contents.records)
        chunks, streams, charges = [], [], []
        for stream in filling.values():
            encoded = contents.encode_stream(stream.coder, stream.codecs, stream.arrays)
            chunks.append(encoded.data)
            streams.append(Stream(_text(stream.coder, CODERS), _codec_texts(stream.codecs), encoded.lengths))
            charges.append(Charge(len(encoded.data), stream.owners, encoded.ideal_bits))
        joined = np.frombuffer(b"".join(array.tobytes() for array in side.arrays), np.uint8)
        encoded = contents.encode_stream(side.coder, codecs, [joined])
        chunks.append(encoded.data)
        charges.append(Charge(len(encoded.data), side.owners, [array.nbytes for array in side.arrays]))
        digest = contents.weights_digest[:DIGEST_CHARS]
        side_stream = Stream("", _codec_texts(side.codecs), encoded.lengths)
        companions = _companions(contents, chunks)
        header = Header(tensors, tuple(streams), side_stream, digest, contents.aliases, companions)
        framed = frame(header.to_json(), *chunks)
        names = [record.name for record in contents.records]
        n_header_bytes = header_length(framed)
        n_companion_bytes = companions.stream.n_bytes if companions else 0
        return framed, file_report(names, charges, len(framed), n_header_bytes, n_companion_bytes)


def _companions(contents: Contents, chunks: list[bytes]) -> StoredCompanions | None:
    """Their entry in the header, None for weights alone; their stream is added to `chunks`."""
    if not contents.companions:
        return None
    codecs, encoded = encode_companions(contents.companions, contents.encode_stream)
    chunks.append(encoded.data)
    files = tuple((name, len(each)) for name, each in contents.companions.items())
    return StoredCompanions(files, Stream("", _codec_texts(codecs, CODECS), encoded.lengths))
