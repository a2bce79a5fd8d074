"""Artifact bytes -> records. numpy and the codecs' own libraries only; refuses whatever FORMAT.md does not allow.

    bytes --layout--> header, body --needs--> limits kept? --codecs, coders, transforms--> records

Sizes are checked before memory is taken: every stream must decode to exactly the bytes that its tensors need, and
what comes out and is held may not pass the limits of `needs`. Time is linear in the bytes of the file and of what
comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.codecs.base import SteadyCoder, SymbolLayout, Symbols, TabledCoder
from pgpack.errors import CorruptArtifact, RecipeError
from pgpack.stages import Table, parse_stage
from pgpack.tensors.grid_schema import check_values
from pgpack.tensors.grids import QuantizedTensor, grid_from_parts
from pgpack.tensors.record import Record

from .companions import CODECS, split_companions
from .header import Header, StoredPart, Stream
from .layout import unframe
from .needs import check_slots, needs_of
from .schema import clipped


def read_artifact(data: bytes, max_bytes: int | None = None) -> tuple[Header, tuple[Record, ...], dict[str, bytes]]:
    """All records of a pgpack artifact, and its companions by name.

    `max_bytes`: in place of both limits of `Needs.check`. Raises a FormatError for what is not as FORMAT.md says.
    """
    header, records, companions = open_records(data, max_bytes)
    return header, tuple(records), companions


def open_records(data: bytes, max_bytes: int | None = None) -> tuple[Header, Iterator[Record], dict[str, bytes]]:
    """`read_artifact` with the records one at a time, of which most coders keep no other in memory; what is wrong
    with the end of a stream is found behind the last."""
    document, body = unframe(data)
    header = Header.from_json(document)
    declared = sum(chain.n_bytes for chain in header.chains)
    if declared != len(body):
        raise CorruptArtifact(f"streams declare {declared} bytes, the body has {len(body)}")
    coders = _stages([stream.coder for stream in header.streams], CODERS)
    codecs = [_stages(stream.codecs, BYTE_CODECS) for stream in (*header.streams, header.side)]
    transforms = _transforms(header)
    needs_of(header, transforms).check(len(data), max_bytes)
    layouts: list[list[SymbolLayout]] = [[] for _ in header.streams]
    for _, part in header.parts:
        layouts[part.stream].append(part.layout)
    lazy = _steadiest(coders, layouts)
    n_symbols = sum(layout.size for each in layouts for layout in each)
    position, n_slots, decoded = 0, 0, []
    for index, (stream, coder, chain) in enumerate(zip(header.streams, coders, codecs, strict=False)):
        coded = body[position : position + stream.n_bytes]
        position += stream.n_bytes
        plain = _undo(coded, chain, stream) if chain or index != lazy else coded
        if isinstance(coder, TabledCoder):
            n_slots += coder.n_slots(memoryview(plain))
            check_slots(n_slots, n_symbols)
        if index == lazy:
            decoded.append(coder.decode_each(memoryview(plain), layouts[index]))
        else:
            decoded.append(iter(coder.decode(bytes(plain), layouts[index])))
    after_side = position + header.side.n_bytes
    side = _undo(body[position:after_side], codecs[-1], header.side)
    companions = {}
    if kept := header.companions:
        chain = _stages(kept.stream.codecs, CODECS)
        companions = split_companions(kept.files, _undo(body[after_side:], chain, kept.stream))
    return header, _records(header, decoded, transforms, side), companions


def coded_arrays(data: bytes, header: Header, records: Sequence[Record]) -> list[list[Symbols]]:
    """The symbols of a file that was read, as they lie in its streams: for each stream its arrays in file order.

    Transforms are done again with the side information that is stored, so that it takes no longer than reading did.
    """
    _, body = unframe(data)
    start = sum(stream.n_bytes for stream in header.streams)
    side = _undo(body[start : start + header.side.n_bytes], _stages(header.side.codecs, BYTE_CODECS), header.side)
    streams: list[list[Symbols]] = [[] for _ in header.streams]
    decoded = (part.symbols for record in records for part in record.parts)
    offset = 0
    for (_, part), chain, symbols in zip(header.parts, _transforms(header), decoded, strict=True):
        arrays, offset = _side_arrays(part, side, offset)
        for i, transform in enumerate(chain):
            symbols = transform.again(symbols, arrays.get(f"@{i}"))
        streams[part.stream].append(symbols)
    return streams


def _steadiest(coders: Sequence[Any], layouts: Sequence[Sequence[SymbolLayout]]) -> int | None:
    """The stream that is decoded an array at a time: of those that can be, the largest. A decoder keeps its tables,
    so that there is one at a time."""
    steady = [i for i, coder in enumerate(coders) if isinstance(coder, SteadyCoder)]
    return max(steady, key=lambda i: sum(layout.n_bytes for layout in layouts[i]), default=None)


def _transforms(header: Header) -> list[list[Any]]:
    """The symbol transforms of every part; equal texts are one stage."""
    known: dict[tuple[str, ...], list[Any]] = {}
    for _, part in header.parts:
        if part.transforms not in known:
            known[part.transforms] = _stages(part.transforms, SYMBOL_TRANSFORMS)
    return [known[part.transforms] for _, part in header.parts]


def _records(
    header: Header, decoded: Sequence[Iterator[Symbols]], transforms: Sequence[Sequence[Any]], side: bytes
) -> Iterator[Record]:
    chains, offset = iter(transforms), 0
    for tensor in header.tensors:
        quantized = []
        for part in tensor.parts:
            try:
                found, offset = _quantized(part, next(chains), next(decoded[part.stream]), side, offset)
            except ValueError as error:
                raise CorruptArtifact(f"{clipped(tensor.name)}: {error}") from None
            quantized.append(found)
        yield Record(tensor.name, tensor.shape, tensor.form, tuple(quantized))
    for stream in decoded:
        next(stream, None)  # to the end, where a stream is checked


def _stages(texts: Sequence[str], table: Table) -> list[Any]:
    try:
        return [parse_stage(text, table) for text in texts]
    except RecipeError as error:
        raise CorruptArtifact(f"the header does not describe an artifact ({error})") from None


def _undo(coded: memoryview, codecs: Sequence[Any], stream: Stream) -> bytes:
    data = bytes(coded)
    for codec, n_bytes in zip(reversed(codecs), reversed(stream.lengths[:-1]), strict=True):
        data = codec.decode(data, n_bytes)
    return data


def _quantized(
    part: StoredPart, transforms: Sequence[Any], symbols: NDArray[Any], side: bytes, offset: int
) -> tuple[QuantizedTensor, int]:
    """The quantized tensor of a part, and the offset behind its side arrays."""
    arrays, offset = _side_arrays(part, side, offset)
    for i, transform in reversed(list(enumerate(transforms))):
        symbols = transform.inverse(symbols, arrays.pop(f"@{i}", None))
    if symbols.size != part.layout.size:
        raise CorruptArtifact(f"{symbols.size} symbols were decoded, {part.layout.size} are declared")
    check_values(part.grid, part.params, symbols, arrays)
    return QuantizedTensor(symbols, grid_from_parts(part.grid, part.params, arrays), part.shape), offset


def _side_arrays(part: StoredPart, side: bytes, offset: int) -> tuple[dict[str, NDArray[Any]], int]:
    """The side arrays of a part by name, and the offset behind them."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, layout in part.arrays:
        arrays[name] = np.frombuffer(side, layout.dtype, layout.size, offset).reshape(layout.shape)
        offset += layout.n_bytes
    return arrays, offset
