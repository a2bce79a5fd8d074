"""Which file format an artifact is written in: `@container=NAME(...)|codec|...` of a recipe.

    pgpack           our own (FORMAT.md); the codecs after it compress the side information
    torch_baseline   the challenge's own dictionary of int8 rows (torch.save), then the codecs
    torch_sdclip     {'w', 'm'} of the SDClip records (torch.save), byte-shuffled behind a BSHF mark, then the codecs
    pergroup         PGRP: one stream per kind of matrix, each through lrzip

The field's three exist to be measured against and to be read; they fix the coding of every tensor, so a recipe
for them may not name coders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from pgpack.codecs.base import ByteCodec
from pgpack.errors import RecipeError
from pgpack.formats.own.size_report import SizeReport
from pgpack.formats.own.stream import StreamCoder, encode_stream
from pgpack.stages import Table
from pgpack.tensors.record import Record


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything an artifact holds.

    `coding`: tensor name -> its Coding; `aliases`: tied name -> stored name; `bits`: tensor name -> the width that
    its quantizer was asked for, where it has one (a label in the field's formats). `encode_stream`: how our own
    format turns a stream's symbols into bytes; another one may remember what was encoded, never give other bytes.
    """

    records: Sequence[Record]
    coding: Mapping[str, Any]
    aliases: Mapping[str, str]
    bits: Mapping[str, int] = field(default_factory=dict)
    encode_stream: StreamCoder = encode_stream

    def untied(self) -> Contents:
        """The same with a record for every tied name, for formats that know no tied names."""
        stored = {record.name: record for record in self.records}
        copies = [replace(stored[name], name=alias) for alias, name in self.aliases.items()]
        bits = {**self.bits, **{a: self.bits[name] for a, name in self.aliases.items() if name in self.bits}}
        return replace(self, records=(*self.records, *copies), aliases={}, bits=bits)


class Container(Protocol):
    """A file format for records."""

    is_field: ClassVar[bool]  # one of the field's formats: fixes the coding of every tensor

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        """The artifact's bytes, and where they went."""
        ...


@dataclass(frozen=True)
class Pgpack:
    """Our own format."""

    is_field: ClassVar[bool] = False

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        from pgpack.formats.own.writer import write_artifact

        return write_artifact(contents, codecs)


@dataclass(frozen=True)
class TorchBaseline:
    """The challenge's baseline export: `quantized`, `scales`, `dtypes`, `passthrough` in one torch.save."""

    is_field: ClassVar[bool] = True

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        from pgpack.formats.field.torch_baseline import write

        return write(contents, codecs)


@dataclass(frozen=True)
class TorchSdclip:
    """The SDClip records' export (PR #1394): torch.save of {'w', 'm'}; `stride` > 0 byte-shuffles it (BSHF)."""

    stride: int = 2
    is_field: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.stride <= 255:
            raise RecipeError("torch_sdclip needs a stride from 0 (no shuffle) to 255")

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        from pgpack.formats.field.torch_sdclip import write

        return write(contents, codecs, self.stride)


@dataclass(frozen=True)
class Pergroup:
    """The per-group export of PR #1855: seven sorted and transposed int8 streams through lrzip, the rest brotli."""

    level: int = 9
    is_field: ClassVar[bool] = True

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        from pgpack.formats.field.pergroup import write

        return write(contents, codecs, self.level)


CONTAINERS = Table(
    __package__,
    {
        "pgpack": "containers:Pgpack",
        "torch_baseline": "containers:TorchBaseline",
        "torch_sdclip": "containers:TorchSdclip",
        "pergroup": "containers:Pergroup",
    },
)
