"""What an artifact holds, whatever its format, and what every format can do with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from pgpack.codecs.base import ByteCodec
from pgpack.tensors.record import Record

from .size_report import SizeReport
from .stream import StreamCoder, encode_stream


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


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything an artifact holds.

    `coding`: tensor name -> its Coding; `aliases`: tied name -> stored name; `bits`: tensor name -> the width that
    its quantizer was asked for, where it has one (a label in the field's formats); `companions`: file name ->
    contents of what lies beside the weights, which the field's formats leave out. `encode_stream`: how our own
    format turns a stream's symbols into bytes; another one may remember what was encoded, never give other bytes.
    """

    records: Sequence[Record]
    coding: Mapping[str, Any]
    aliases: Mapping[str, str]
    bits: Mapping[str, int] = field(default_factory=dict)
    companions: Mapping[str, bytes] = field(default_factory=dict)
    encode_stream: StreamCoder = encode_stream

    @cached_property
    def weights_digest(self) -> str:
        """`weights_digest` of the records."""
        return weights_digest(self.records, self.aliases)

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
