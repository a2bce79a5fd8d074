"""Artifact bytes -> records. numpy and the codecs' own libraries only; refuses whatever FORMAT.md does not allow.

Sizes are checked before memory is taken: every stream must decode to exactly the bytes that its tensors need, and
their sum may not pass `max_bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.codecs.base import SymbolLayout
from pgpack.errors import CorruptArtifact, FormatError, RecipeError
from pgpack.stages import parse_stage
from pgpack.tensors.grids import QuantizedTensor, grid_from_parts
from pgpack.tensors.record import FORMS, Record

from .layout import unframe

MAX_BYTES = 8 << 30
SYMBOL_DTYPES = ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8")
ARRAY_DTYPES = (*SYMBOL_DTYPES, "<f2", "<f4")


@dataclass(frozen=True, eq=False)
class DecodedArtifact:
    """What an artifact holds. `digest` is the first 16 hex digits of the packer's weights digest."""

    records: tuple[Record, ...]
    aliases: Mapping[str, str]
    digest: str
    n_header_bytes: int
    stream_specs: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """One part of a tensor as the header declares it; `layout` is of the symbols as coded."""

    grid: str
    params: dict[str, Any]
    layout: SymbolLayout
    stream: int
    arrays: tuple[tuple[str, SymbolLayout], ...]
    transforms: tuple[Any, ...]
    shape: tuple[int, ...]


def read_artifact(data: bytes, max_bytes: int = MAX_BYTES) -> DecodedArtifact:
    """All records of a pgpack artifact. Raises a FormatError when anything is not as FORMAT.md says."""
    header, body, n_header_bytes = unframe(data)
    try:
        tensors = [_tensor(entry) for entry in _list(header["tensors"])]
        specs = [_stream_spec(entry) for entry in _list(header["streams"])]
        side_codecs, side_lengths = _chain(*header["side"])
        aliases = {str(k): str(v) for k, v in dict(header.get("aliases", {})).items()}
        digest = str(header["digest"])
    except (KeyError, TypeError, ValueError, AttributeError, RecipeError) as error:
        raise CorruptArtifact(f"the header does not describe an artifact ({error})") from None
    _check_names([name for name, *_ in tensors], aliases)
    parts = [part for *_, found in tensors for part in found]
    _check_sizes(parts, specs, side_lengths, len(body), max_bytes)
    position, decoded = 0, []
    for index, (coder, codecs, lengths) in enumerate(specs):
        coded = _undo(bytes(body[position : position + lengths[-1]]), codecs, lengths)
        position += lengths[-1]
        decoded.append(iter(coder.decode(coded, [part.layout for part in parts if part.stream == index])))
    side = _undo(bytes(body[position:]), side_codecs, side_lengths)
    records, offset = [], 0
    for name, shape, form, found in tensors:
        quantized = []
        for part in found:
            tensor, offset = _quantized(part, next(decoded[part.stream]), side, offset)
            quantized.append(tensor)
        records.append(Record(name, shape, form, tuple(quantized)))
    texts = tuple("|".join([spec[0], *spec[1]]) for spec in header["streams"])
    return DecodedArtifact(tuple(records), aliases, digest, n_header_bytes, texts)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {type(value).__name__}")
    return value


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(_list(value))
    if any(type(length) is not int or length < 0 for length in shape) or len(shape) > 32:
        raise ValueError(f"{shape} is not a shape")
    return shape


def _layout(shape: Any, dtype: Any, allowed: Sequence[str]) -> SymbolLayout:
    if dtype not in allowed:
        raise ValueError(f"dtype {dtype!r} is not allowed here")
    return SymbolLayout(_shape(shape), dtype)


def _tensor(entry: Any) -> tuple[str, tuple[int, ...], str, list[_Part]]:
    name, shape, form, parts = _list(entry)
    if not isinstance(name, str) or FORMS.get(form) != len(_list(parts)):
        raise ValueError(f"tensor {name!r} has form {form!r} and {len(parts)} parts")
    return name, _shape(shape), form, [_part(part, _shape(shape)) for part in parts]


def _part(entry: Any, tensor_shape: tuple[int, ...]) -> _Part:
    grid, params, dtype, shape, stream, arrays, *rest = _list(entry)
    if type(stream) is not int or stream < 0 or not isinstance(params, dict):
        raise ValueError("a part needs a stream number and parameters")
    transforms = tuple(parse_stage(text, SYMBOL_TRANSFORMS) for text in (rest[0] if rest else []))
    described = tuple((str(name), _layout(length, kind, ARRAY_DTYPES)) for name, kind, length in arrays)
    own_shape = _shape(rest[1]) if len(rest) > 1 else tensor_shape
    return _Part(grid, params, _layout(shape, dtype, SYMBOL_DTYPES), stream, described, transforms, own_shape)


def _chain(texts: Any, lengths: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    codecs = tuple(parse_stage(text, BYTE_CODECS) for text in _list(texts))
    sizes = _shape(lengths)
    if len(sizes) != len(codecs) + 1:
        raise ValueError("a chain of codecs needs one length more than codecs")
    return codecs, sizes


def _stream_spec(entry: Any) -> tuple[Any, tuple[Any, ...], tuple[int, ...]]:
    coder, codecs, lengths = _list(entry)
    return parse_stage(coder, CODERS), *_chain(codecs, lengths)


def _check_names(names: Sequence[str], aliases: Mapping[str, str]) -> None:
    if len(set(names)) != len(names) or set(names) & set(aliases):
        raise CorruptArtifact("a tensor is named twice")
    if unknown := set(aliases.values()) - set(names):
        raise CorruptArtifact(f"alias of a tensor that is not there: {sorted(unknown)[0]!r}")


def _check_sizes(
    parts: Sequence[_Part], specs: Sequence[Any], side_lengths: Sequence[int], body_len: int, max_bytes: int
) -> None:
    """No holes and no overlap in the body; no declared size above `max_bytes`."""
    if any(part.stream >= len(specs) for part in parts):
        raise CorruptArtifact("a tensor refers to a stream that is not there")
    declared = sum(lengths[-1] for *_, lengths in specs) + side_lengths[-1]
    if declared != body_len:
        raise CorruptArtifact(f"streams declare {declared} bytes, the body has {body_len}")
    needed = sum(part.layout.n_bytes + sum(layout.n_bytes for _, layout in part.arrays) for part in parts)
    needed += sum(int(np.prod([*part.shape, 1], dtype=object)) for part in parts)
    intermediate = max([*side_lengths, *(length for *_, lengths in specs for length in lengths)], default=0)
    if max(needed, intermediate) > max_bytes:
        raise FormatError(f"decoding needs {max(needed, intermediate):,} bytes, above the limit of {max_bytes:,}")
    side = sum(layout.n_bytes for part in parts for _, layout in part.arrays)
    if side != side_lengths[0]:
        raise CorruptArtifact(f"side information declares {side} bytes, its stream {side_lengths[0]}")


def _undo(data: bytes, codecs: Sequence[Any], lengths: Sequence[int]) -> bytes:
    for codec, n_bytes in zip(reversed(codecs), reversed(lengths[:-1]), strict=True):
        data = codec.decode(data, n_bytes)
    return data


def _quantized(part: _Part, symbols: NDArray[Any], side: bytes, offset: int) -> tuple[QuantizedTensor, int]:
    """The quantized tensor of a part, and the offset behind its side arrays."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, layout in part.arrays:
        arrays[name] = np.frombuffer(side, layout.dtype, layout.size, offset).reshape(layout.shape)
        offset += layout.n_bytes
    for i, transform in reversed(list(enumerate(part.transforms))):
        symbols = transform.inverse(symbols, arrays.pop(f"@{i}", None))
    if symbols.size != part.layout.size:
        raise CorruptArtifact(f"{symbols.size} symbols were decoded, {part.layout.size} are declared")
    return QuantizedTensor(symbols, grid_from_parts(part.grid, part.params, arrays), part.shape), offset
