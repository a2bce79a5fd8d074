"""Artifact bytes -> records. numpy and the codecs' own libraries only; refuses whatever FORMAT.md does not allow.

Sizes are checked before memory is taken: every stream must decode to exactly the bytes that its tensors need, and
their sum may not pass `max_bytes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.codecs.base import SteadyCoder, Symbols
from pgpack.errors import CorruptArtifact, FormatError, RecipeError
from pgpack.stages import Table, parse_stage
from pgpack.tensors.grids import QuantizedTensor, grid_from_parts
from pgpack.tensors.record import Record

from .companions import CODECS, split_companions
from .header import Header, StoredPart, Stream
from .layout import unframe

MAX_BYTES = 8 << 30


def read_artifact(data: bytes, max_bytes: int = MAX_BYTES) -> tuple[Header, tuple[Record, ...], dict[str, bytes]]:
    """All records of a pgpack artifact, and its companions by name.

    Raises a FormatError when anything is not as FORMAT.md says.
    """
    header, records, companions = open_records(data, max_bytes)
    return header, tuple(records), companions


def open_records(data: bytes, max_bytes: int = MAX_BYTES) -> tuple[Header, Iterator[Record], dict[str, bytes]]:
    """`read_artifact` with the records one at a time, of which most coders keep no other in memory; what is wrong
    with the end of a stream is found behind the last."""
    document, body = unframe(data)
    header = Header.from_json(document)
    coders = _stages([stream.coder for stream in header.streams], CODERS)
    codecs = [_stages(stream.codecs, BYTE_CODECS) for stream in (*header.streams, header.side)]
    transforms = [_stages(part.transforms, SYMBOL_TRANSFORMS) for _, part in header.parts]
    _check_sizes(header, len(body), max_bytes)
    position, decoded = 0, []
    for index, (stream, coder, chain) in enumerate(zip(header.streams, coders, codecs, strict=False)):
        coded = body[position : position + stream.n_bytes]
        position += stream.n_bytes
        layouts = [part.layout for _, part in header.parts if part.stream == index]
        if isinstance(coder, SteadyCoder):
            decoded.append(coder.decode_each(memoryview(_undo(coded, chain, stream)) if chain else coded, layouts))
        else:
            decoded.append(iter(coder.decode(_undo(coded, chain, stream), layouts)))
    after_side = position + header.side.n_bytes
    side = _undo(body[position:after_side], codecs[-1], header.side)
    companions = {}
    if kept := header.companions:
        chain = _stages(kept.stream.codecs, CODECS)
        companions = split_companions(kept.files, _undo(body[after_side:], chain, kept.stream))
    return header, _records(header, decoded, transforms, side), companions


def _records(
    header: Header, decoded: Sequence[Iterator[Symbols]], transforms: Sequence[Sequence[Any]], side: bytes
) -> Iterator[Record]:
    chains, offset = iter(transforms), 0
    for tensor in header.tensors:
        quantized = []
        for part in tensor.parts:
            found, offset = _quantized(part, next(chains), next(decoded[part.stream]), side, offset)
            quantized.append(found)
        yield Record(tensor.name, tensor.shape, tensor.form, tuple(quantized))
    for stream in decoded:
        next(stream, None)  # to the end, where a stream is checked


def _stages(texts: Sequence[str], table: Table) -> list[Any]:
    try:
        return [parse_stage(text, table) for text in texts]
    except RecipeError as error:
        raise CorruptArtifact(f"the header does not describe an artifact ({error})") from None


def _check_sizes(header: Header, body_len: int, max_bytes: int) -> None:
    """No holes and no overlap in the body; no declared size above `max_bytes`."""
    declared = sum(chain.n_bytes for chain in header.chains)
    if declared != body_len:
        raise CorruptArtifact(f"streams declare {declared} bytes, the body has {body_len}")
    side = sum(part.n_side_bytes for _, part in header.parts)
    needed = side + sum(part.layout.n_bytes + math.prod(part.shape) for _, part in header.parts)
    largest = max(needed, *(length for chain in header.chains for length in chain.lengths))
    if largest > max_bytes:
        raise FormatError(f"decoding needs {largest:,} bytes, above the limit of {max_bytes:,}")
    if side != header.side.lengths[0]:
        raise CorruptArtifact(f"side information declares {side} bytes, its stream {header.side.lengths[0]}")


def _undo(coded: memoryview, codecs: Sequence[Any], stream: Stream) -> bytes:
    data = bytes(coded)
    for codec, n_bytes in zip(reversed(codecs), reversed(stream.lengths[:-1]), strict=True):
        data = codec.decode(data, n_bytes)
    return data


def _quantized(
    part: StoredPart, transforms: Sequence[Any], symbols: NDArray[Any], side: bytes, offset: int
) -> tuple[QuantizedTensor, int]:
    """The quantized tensor of a part, and the offset behind its side arrays."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, layout in part.arrays:
        arrays[name] = np.frombuffer(side, layout.dtype, layout.size, offset).reshape(layout.shape)
        offset += layout.n_bytes
    for i, transform in reversed(list(enumerate(transforms))):
        symbols = transform.inverse(symbols, arrays.pop(f"@{i}", None))
    if symbols.size != part.layout.size:
        raise CorruptArtifact(f"{symbols.size} symbols were decoded, {part.layout.size} are declared")
    return QuantizedTensor(symbols, grid_from_parts(part.grid, part.params, arrays), part.shape), offset
