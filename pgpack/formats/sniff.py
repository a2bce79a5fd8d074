"""Which format a file is in, by content and never by name, and the records of any of the field's.

"PGPK" -> pgpack      "PGRP" -> pergroup
zlib, zstd, xz, bz2 by mark, else brotli by trial --> "BSHF"? --> "PK": torch.save, told apart by its keys
(some begin with a byte or a word that names the codec)

A file is decompressed once: `open_field` says what it is and keeps what it decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgpack.errors import CorruptArtifact, FormatError, NoArtifact
from pgpack.formats.field import pergroup, torch_baseline, torch_bits, torch_sdclip
from pgpack.formats.field.compressed import codec_of, decompress
from pgpack.formats.field.torch_baseline import DEFAULT_LIMIT
from pgpack.formats.own.needs import OUTPUT_LEAST, OUTPUT_RATIO
from pgpack.formats.torch_files.stream import load
from pgpack.formats.torch_files.zip import entries_of
from pgpack.tensors.record import Record

PGPACK = b"PGPK"
ZIP = b"PK\x03\x04"
OTHER_KEYS, NO_TORCH = "a torch file with the keys of none of the field's containers", "it holds no torch stream"
UNKNOWN = "not an artifact of any known format (pgpack, PGRP, .ptz; the base-5 container of PR #2086 is not read)"
_ONE_LETTER = b"X\x01\x00\x00\x00"  # opens a one-letter string in torch.save's pickles (protocol 2)
_METHODS = {0: "lzma", 1: "brotli", 2: "zstd"}  # the first byte of the XNOR record's file
_WORDS = (b"ZSTD", b"ZLIB")  # a record's file of 2026-03-21 begins with one
_BITS = "bits"  # ternary or binary: told apart by their entries


@dataclass(frozen=True, eq=False)
class FieldFile:
    """A file of the field: its container's name, and its records once they are asked for (FormatError if damaged)."""

    kind: str
    read: Callable[[], list[Record]]


def open_field(data: bytes, limit: int = DEFAULT_LIMIT) -> FieldFile | None:
    """The file in one of the field's formats, None when it is none of them (or too damaged to tell).

    `limit`: the most bytes that anything in it may decode to; nor more than may come out of a file of its size.
    """
    try:
        return _opened(data, min(limit, _most(data)))
    except FormatError:
        return None


def read_identified(data: bytes, limit: int | None = None) -> tuple[str, list[Record]]:
    """The container's name and the records of an artifact in one of the field's formats.

    `limit`: the most bytes that anything may decode to; None: 400 times the file or 64 MiB, 1 GiB at most.
    Raises FormatError when it is none of them or damaged; NoArtifact when it is a checkpoint.
    """
    found = _opened(data, _most(data) if limit is None else min(limit, DEFAULT_LIMIT))
    return found.kind, found.read()


def _most(data: bytes) -> int:
    """Bytes that may come out of a file, unless somebody says otherwise."""
    return min(DEFAULT_LIMIT, max(OUTPUT_LEAST, OUTPUT_RATIO * len(data)))


def _opened(data: bytes, limit: int) -> FieldFile:
    if data[:4] == pergroup.MARK:
        return FieldFile(pergroup.NAME, lambda: pergroup.read(data, limit))
    if data[:4] == PGPACK:
        raise FormatError("a pgpack artifact, not one of the field's; read it with pgpack.unpack")
    stream = _torch_stream(data, limit)
    kind = _kind_of(stream)
    if kind == torch_baseline.NAME:
        return FieldFile(kind, lambda: torch_baseline.records_of(load(stream, limit)))
    if kind == torch_sdclip.NAME:
        return FieldFile(kind, lambda: _sdclip(stream, limit))
    if kind == _BITS:
        state = load(stream, limit)
        return FieldFile(torch_bits.kind_of(state), lambda: torch_bits.records_of(state, limit))
    raise NoArtifact(f"{UNKNOWN}: {OTHER_KEYS}; a checkpoint is packed with `pgpack pack`")


def _sdclip(stream: bytes, limit: int) -> list[Record]:
    state = load(stream, limit)
    return torch_sdclip.records_of(state.get("w"), state.get("m"))


def _torch_stream(data: bytes, limit: int) -> bytes:
    """The torch.save stream inside a file. Raises FormatError when there is none."""
    try:
        plain = data if data[:4] in (ZIP, torch_sdclip.MARK) else _decompressed(data, limit)
    except CorruptArtifact as error:
        if codec_of(data) != "brotli":
            raise
        raise FormatError(f"{UNKNOWN}: {error}") from None
    stream = torch_sdclip.unshuffled(plain)
    if stream[:4] != ZIP:
        raise FormatError(f"{UNKNOWN}: {NO_TORCH}")
    return stream


def _decompressed(data: bytes, limit: int) -> bytes:
    """The contents of a compressed file, behind a byte or a word that names its codec if there is one."""
    if data[:4] in _WORDS and codec_of(data[4:]) == data[:4].decode().lower():
        return decompress(data[4:], limit)
    method = _METHODS.get(data[0]) if data else None
    if method is not None and method != "brotli" and codec_of(data[1:]) == method:
        return decompress(data[1:], limit)
    try:
        return decompress(data, limit)
    except FormatError:
        if method != "brotli":
            raise
        return decompress(data[1:], limit)


def _kind_of(stream: bytes) -> str | None:
    """The container whose keys the pickle of a torch.save stream mentions. Raises CorruptArtifact."""
    for entry in entries_of(stream):
        if entry.name.endswith("/data.pkl"):
            pickled = stream[entry.start : entry.end]
            if any(word.encode() in pickled for word in torch_baseline.QUANT_FORMATS):
                return torch_baseline.NAME
            if _ONE_LETTER + b"w" in pickled and _ONE_LETTER + b"m" in pickled:
                return torch_sdclip.NAME
            if all(key in pickled for key in (b"packed", b"padded_cols", b"group_size")):
                return _BITS
    return None
