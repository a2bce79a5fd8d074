"""The header of an artifact as a value: which tensors, parts and streams its body holds (FORMAT.md).

    JSON <--from_json, to_json--> Header: tensors of parts | streams | side stream | digest | aliases | companions

Stages stay the texts that they are in the file, so that reading a header loads no codec. Refuses what FORMAT.md does
not allow of types, ranges and names (`schema`); how grids, forms and sizes fit together is `needs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pgpack.errors import CorruptArtifact
from pgpack.tensors.layout import SymbolLayout
from pgpack.tensors.record import FORMS

from .companions import MAX_BYTES as MAX_COMPANION_BYTES
from .companions import MAX_FILES, check_files
from .schema import (
    ARRAY_DTYPES,
    MAX_ARRAYS,
    MAX_STREAMS,
    MAX_TENSORS,
    SYMBOL_DTYPES,
    as_aliases,
    as_digest,
    as_layout,
    as_lengths,
    as_list,
    as_name,
    as_shape,
    clipped,
    stage_texts,
)

REQUIRED = frozenset({"tensors", "streams", "side", "digest"})
KEYS = REQUIRED | {"aliases", "companions"}
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
        fields = as_list(entry, 6, 8)
        grid, params, dtype, shape, stream, arrays = fields[:6]
        if type(stream) is not int or stream < 0 or not isinstance(params, dict) or not isinstance(grid, str):
            raise ValueError("a part needs a grid, parameters and a stream number")
        described = tuple(_array(array) for array in as_list(arrays, 0, MAX_ARRAYS))
        if len(dict(described)) != len(described):
            raise ValueError("a part names an array twice")
        transforms = stage_texts(fields[6] if len(fields) > 6 else [])
        own_shape = as_shape(fields[7]) if len(fields) > 7 else tensor_shape
        return cls(grid, params, as_layout(shape, dtype, SYMBOL_DTYPES), stream, described, transforms, own_shape)


def _array(entry: Any) -> tuple[str, SymbolLayout]:
    name, dtype, shape = as_list(entry, 3)
    return as_name(name), as_layout(shape, dtype, ARRAY_DTYPES)


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
        name, lengths, form, parts = as_list(entry, 4)
        if not isinstance(form, str) or FORMS.get(form) != len(as_list(parts)):
            raise ValueError(f"tensor {clipped(name)} has form {clipped(form)} and {len(parts)} parts")
        as_name(name)
        shape = as_shape(lengths)
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
    def coded(entry: Any) -> Stream:
        """A stream of symbols. Raises ValueError or TypeError."""
        coder, codecs, lengths = as_list(entry, 3)
        return Stream.parse(stage_texts([coder])[0], codecs, lengths)

    @staticmethod
    def parse(coder: str, codecs: Any, lengths: Any) -> Stream:
        """Raises ValueError or TypeError."""
        found = Stream(coder, stage_texts(codecs), as_lengths(lengths))
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
        files, codecs, lengths = as_list(entry, 3)
        named = tuple(
            (name, n_bytes) for name, n_bytes in (as_list(file, 2) for file in as_list(files, 1, MAX_FILES))
        )
        if any(type(name) is not str or type(n) is not int or n < 0 for name, n in named):
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
            if not REQUIRED <= document.keys() <= KEYS:
                raise ValueError(f"its keys are {', '.join(sorted(KEYS))}, the last two only where needed")
            header = cls(
                tuple(StoredTensor.from_json(entry) for entry in as_list(document["tensors"], 0, MAX_TENSORS)),
                tuple(Stream.coded(entry) for entry in as_list(document["streams"], 0, MAX_STREAMS)),
                Stream.parse("", *as_list(document["side"], 2)),
                as_digest(document["digest"]),
                as_aliases(document.get("aliases", {})),
                StoredCompanions.from_json(document["companions"]) if "companions" in document else None,
            )
        except (TypeError, ValueError) as error:
            raise CorruptArtifact(f"the header does not describe an artifact ({error})") from None
        header.check()
        return header

    def check(self) -> None:
        """Raises CorruptArtifact when a name stands twice, or what is referred to is not there, or is not used."""
        names = {tensor.name for tensor in self.tensors}
        if len(names) != len(self.tensors) or names & set(self.aliases):
            raise CorruptArtifact("a tensor is named twice")
        if unknown := set(self.aliases.values()) - names:
            raise CorruptArtifact(f"alias of a tensor that is not there: {clipped(min(unknown))}")
        if {part.stream for _, part in self.parts} != set(range(len(self.streams))):
            raise CorruptArtifact("a tensor refers to a stream that is not there, or a stream holds no tensor")
