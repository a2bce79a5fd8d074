"""The header of an artifact as a value: which tensors, parts and streams its body holds (FORMAT.md).

    JSON <--from_json, to_json--> Header: tensors of parts | streams | side stream | digest | aliases | companions

Stages stay the texts that they are in the file, so that reading a header loads no codec. Refuses what FORMAT.md does
not allow; how the sizes fit the body is the reader's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgpack.codecs.base import SymbolLayout
from pgpack.errors import CorruptArtifact
from pgpack.tensors.record import FORMS

from .companions import MAX_BYTES as MAX_COMPANION_BYTES
from .companions import check_files

SYMBOL_DTYPES = ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8")
ARRAY_DTYPES = (*SYMBOL_DTYPES, "<f2", "<f4")
MAX_DIMENSIONS = 32
MAX_COMPANION_STREAM = 2 * MAX_COMPANION_BYTES  # before, between and after its codecs


@dataclass(frozen=True)
class StoredPart:
    """One part of a tensor. `layout` is of its symbols as coded, in the stream of number `stream`; `arrays` name and
    lay out its side information, in file order, `@i` being that of transform i; `shape` is that of its values."""

    grid: str
    params: dict[str, Any]
    layout: SymbolLayout
    stream: int
    arrays: tuple[tuple[str, SymbolLayout], ...]
    transforms: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def n_side_bytes(self) -> int:
        return sum(layout.n_bytes for _, layout in self.arrays)

    def to_json(self, tensor_shape: tuple[int, ...]) -> list[Any]:
        """Its entry in the header; transforms and shape stand there where they say something."""
        arrays = [[name, layout.dtype, list(layout.shape)] for name, layout in self.arrays]
        entry = [self.grid, self.params, self.layout.dtype, list(self.layout.shape), self.stream, arrays]
        if self.transforms or self.shape != tensor_shape:
            entry.append(list(self.transforms))
        if self.shape != tensor_shape:
            entry.append(list(self.shape))
        return entry

    @classmethod
    def from_json(cls, entry: Any, tensor_shape: tuple[int, ...]) -> StoredPart:
        """The inverse of `to_json`. Raises ValueError or TypeError."""
        grid, params, dtype, shape, stream, arrays, *rest = _list(entry)
        if type(stream) is not int or stream < 0 or not isinstance(params, dict):
            raise ValueError("a part needs a stream number and parameters")
        transforms = tuple(str(text) for text in (rest[0] if rest else []))
        described = tuple((str(name), _layout(length, kind, ARRAY_DTYPES)) for name, kind, length in arrays)
        own_shape = _shape(rest[1]) if len(rest) > 1 else tensor_shape
        return cls(grid, params, _layout(shape, dtype, SYMBOL_DTYPES), stream, described, transforms, own_shape)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor and the parts that its form joins."""

    name: str
    shape: tuple[int, ...]
    form: str
    parts: tuple[StoredPart, ...]

    def to_json(self) -> list[Any]:
        return [self.name, list(self.shape), self.form, [part.to_json(self.shape) for part in self.parts]]

    @classmethod
    def from_json(cls, entry: Any) -> StoredTensor:
        """The inverse of `to_json`. Raises ValueError or TypeError."""
        name, lengths, form, parts = _list(entry)
        if not isinstance(name, str) or FORMS.get(form) != len(_list(parts)):
            raise ValueError(f"tensor {name!r} has form {form!r} and {len(parts)} parts")
        shape = _shape(lengths)
        return cls(name, shape, form, tuple(StoredPart.from_json(part, shape) for part in parts))


@dataclass(frozen=True)
class Stream:
    """`lengths`: bytes before the first and after each byte codec. `coder` is '' for the side stream."""

    coder: str
    codecs: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return self.lengths[-1]

    @staticmethod
    def parse(coder: Any, codecs: Any, lengths: Any) -> Stream:
        """Raises ValueError or TypeError."""
        found = Stream(str(coder), tuple(str(text) for text in _list(codecs)), _shape(lengths))
        if len(found.lengths) != len(found.codecs) + 1:
            raise ValueError("a chain of codecs needs one length more than codecs")
        return found


@dataclass(frozen=True)
class StoredCompanions:
    """Small files beside the weights: (name, bytes) in the order of the stream that holds them."""

    files: tuple[tuple[str, int], ...]
    stream: Stream

    def to_json(self) -> list[Any]:
        return [[list(file) for file in self.files], list(self.stream.codecs), list(self.stream.lengths)]

    @classmethod
    def from_json(cls, entry: Any) -> StoredCompanions:
        """The inverse of `to_json`. Raises ValueError or TypeError."""
        files, codecs, lengths = _list(entry)
        named = tuple((name, n_bytes) for name, n_bytes in _list(files))
        if not named or any(type(name) is not str or type(n) is not int or n < 0 for name, n in named):
            raise ValueError("companions are names with sizes")
        check_files(named)
        stream = Stream.parse("", codecs, lengths)
        if stream.lengths[0] != sum(n_bytes for _, n_bytes in named) or max(stream.lengths) > MAX_COMPANION_STREAM:
            raise ValueError(f"companions do not fill their stream of {stream.lengths[0]} bytes")
        return cls(named, stream)


@dataclass(frozen=True)
class Header:
    """`digest`: the first 16 hex digits of the packer's weights digest; `aliases`: tied name -> stored name;
    `companions`: None when the artifact holds weights alone."""

    tensors: tuple[StoredTensor, ...]
    streams: tuple[Stream, ...]
    side: Stream
    digest: str
    aliases: Mapping[str, str]
    companions: StoredCompanions | None = None

    @property
    def chains(self) -> tuple[Stream, ...]:
        """Every stream of the body, in file order."""
        return (*self.streams, self.side, *([self.companions.stream] if self.companions else []))

    @property
    def parts(self) -> Iterator[tuple[StoredTensor, StoredPart]]:
        return ((tensor, part) for tensor in self.tensors for part in tensor.parts)

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "streams": [[stream.coder, list(stream.codecs), list(stream.lengths)] for stream in self.streams],
            "side": [list(self.side.codecs), list(self.side.lengths)],
            "digest": self.digest,
        }
        document |= {"aliases": dict(self.aliases)} if self.aliases else {}
        return document | ({"companions": self.companions.to_json()} if self.companions else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Header:
        """The inverse of `to_json`. Raises CorruptArtifact."""
        try:
            header = cls(
                tuple(StoredTensor.from_json(entry) for entry in _list(document["tensors"])),
                tuple(Stream.parse(*_list(entry)) for entry in _list(document["streams"])),
                Stream.parse("", *_list(document["side"])),
                str(document["digest"]),
                {str(k): str(v) for k, v in dict(document.get("aliases", {})).items()},
                StoredCompanions.from_json(document["companions"]) if "companions" in document else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptArtifact(f"the header does not describe an artifact ({error})") from None
        header.check()
        return header

    def check(self) -> None:
        """Raises CorruptArtifact when a name stands twice or what is referred to is not there."""
        names = {tensor.name for tensor in self.tensors}
        if len(names) != len(self.tensors) or names & set(self.aliases):
            raise CorruptArtifact("a tensor is named twice")
        if unknown := set(self.aliases.values()) - names:
            raise CorruptArtifact(f"alias of a tensor that is not there: {sorted(unknown)[0]!r}")
        if any(part.stream >= len(self.streams) for _, part in self.parts):
            raise CorruptArtifact("a tensor refers to a stream that is not there")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {type(value).__name__}")
    return value


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(_list(value))
    if any(type(length) is not int or length < 0 for length in shape) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{shape} is not a shape")
    return shape


def _layout(shape: Any, dtype: Any, allowed: Sequence[str]) -> SymbolLayout:
    if dtype not in allowed:
        raise ValueError(f"dtype {dtype!r} is not allowed here")
    return SymbolLayout(_shape(shape), dtype)
