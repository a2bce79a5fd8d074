"""The zip file around a torch.save stream: stored entries whose contents begin at multiples of 64 bytes.

    data.pkl  .format_version  .storage_alignment  byteorder  data/0  data/1 ...  version  .data/serialization_id

Written as torch 2.13 writes them, to the byte.
Refuses on writing: 65,536 entries, 4 GiB. Refuses on reading: compressed, encrypted, overlapping and repeated
entries, and files from 4 GiB on.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pgpack.errors import CorruptArtifact, RecipeError

from .serialization_id import serialization_id

Buffer = bytes | memoryview
ALIGNMENT = 64
FOLDER = "archive"
SIZE_LIMIT = 0xFFFFFFFF  # marks a size in a zip64 field
ENTRY_LIMIT = 0xFFFF
_UTF8, _SIZES_FOLLOW = 0x0800, 0x0008  # flags; an empty file has no sizes behind it
_LOCAL, _LOCAL_LEN = struct.Struct("<4s5H3I2H"), 30
_CENTRAL, _CENTRAL_LEN = struct.Struct("<4s6H3I5H2I"), 46
_END, _END_LEN = struct.Struct("<4s4H2IH"), 22


@dataclass(frozen=True)
class Entry:
    """One file inside. Units: `start` and `end` are the bounds of its contents in the stream, `header` where its
    own header begins."""

    name: str
    header: int
    start: int
    end: int


def framed(pickle: bytes, contents: Sequence[Buffer]) -> list[Buffer]:
    """The pieces of the stream, in order; the contents of tensors are pieces of their own (not copied)."""
    files: list[tuple[str, Buffer]] = [
        ("data.pkl", pickle),
        (".format_version", b"1"),
        (".storage_alignment", str(ALIGNMENT).encode()),
        ("byteorder", b"little"),
        *((f"data/{i}", content) for i, content in enumerate(contents)),
        ("version", b"3\n"),
    ]
    if len(files) + 1 > ENTRY_LIMIT or sum(len(content) + 256 + len(name) for name, content in files) > SIZE_LIMIT:
        raise RecipeError(f"{len(contents)} tensors do not fit into a torch stream of 65,535 entries and 4 GiB")
    sums = [zlib.crc32(content) for _, content in files]
    filled = [crc for (_, content), crc in zip(files, sums, strict=True) if len(content)]
    files.append((".data/serialization_id", serialization_id([name for name, _ in files], filled)))
    sums.append(zlib.crc32(files[-1][1]))
    pieces: list[Buffer] = []
    directory = bytearray()
    position = 0
    for (short, content), crc in zip(files, sums, strict=True):
        name = f"{FOLDER}/{short}".encode()
        sizes = (crc, len(content), len(content))
        flags = _UTF8 | (_SIZES_FOLLOW if len(content) else 0)
        padding = -(position + _LOCAL_LEN + len(name) + 4) % ALIGNMENT
        extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        head = _LOCAL.pack(b"PK\x03\x04", 0, flags, 0, 0, 0, 0, 0, 0, len(name), len(extra)) + name + extra
        tail = struct.pack("<4s3I", b"PK\x07\x08", *sizes) if len(content) else b""
        directory += _CENTRAL.pack(b"PK\x01\x02", 0, 0, flags, 0, 0, 0, *sizes, len(name), 0, 0, 0, 0, 0, position)
        directory += name
        pieces += [head, content, tail]
        position += len(head) + len(content) + len(tail)
    return [*pieces, bytes(directory), _closing(len(files), len(directory), position)]


def _closing(n_entries: int, directory_len: int, position: int) -> bytes:
    """The end of the file: always with zip64 records, as torch writes it."""
    end = position + directory_len
    zip64 = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, *[n_entries] * 2, directory_len, position)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return zip64 + locator + _END.pack(b"PK\x05\x06", 0, 0, n_entries, n_entries, directory_len, position, 0)


def entries_of(data: Buffer) -> list[Entry]:
    """The files of a stream in the order of their contents. Raises CorruptArtifact unless all are stored plainly."""
    if len(data) < _END_LEN:
        raise CorruptArtifact(f"not a torch.save stream (only {len(data)} bytes)")
    mark, *_, n_entries, directory_len, position, comment = _END.unpack_from(data, len(data) - _END_LEN)
    if mark != b"PK\x05\x06" or comment:
        raise CorruptArtifact("not a torch.save stream (it does not end as a zip file does)")
    end = position + directory_len
    if end > len(data) - _END_LEN:
        raise CorruptArtifact("not a torch.save stream (its directory lies outside of it)")
    found = []
    for _ in range(n_entries):
        entry, position = _entry(data, position, end)
        found.append(entry)
    found.sort(key=lambda entry: entry.header)
    if any(before.end > after.header for before, after in pairwise(found)):
        raise CorruptArtifact("the entries of a torch stream overlap")
    if len({entry.name for entry in found}) < len(found):
        raise CorruptArtifact("two entries of a torch stream have one name")
    return found


def _entry(data: Buffer, position: int, end: int) -> tuple[Entry, int]:
    """The entry that the directory describes at `position`, and where the next one is described."""
    if position + _CENTRAL_LEN > end:
        raise CorruptArtifact("the directory of a torch stream ends early")
    fields = _CENTRAL.unpack_from(data, position)
    mark, flags, method, packed, size = fields[0], fields[3], fields[4], fields[8], fields[9]
    name_len, extra_len, comment_len, header = fields[10], fields[11], fields[12], fields[16]
    following = position + _CENTRAL_LEN + name_len + extra_len + comment_len
    if mark != b"PK\x01\x02" or following > end:
        raise CorruptArtifact("the directory of a torch stream is damaged")
    if method or packed != size or flags & 1:
        raise CorruptArtifact("a compressed entry inside a torch stream; torch.save stores entries as they are")
    if SIZE_LIMIT in (size, header):
        raise CorruptArtifact("an entry of a torch stream is of 4 GiB or lies behind 4 GiB")
    try:
        name = str(data[position + _CENTRAL_LEN : position + _CENTRAL_LEN + name_len], "utf-8")
    except UnicodeDecodeError:
        raise CorruptArtifact("the name of an entry of a torch stream is not UTF-8") from None
    if header + _LOCAL_LEN > len(data):
        raise CorruptArtifact(f"{name}: lies outside of the torch stream")
    local = _LOCAL.unpack_from(data, header)
    start = header + _LOCAL_LEN + local[-2] + local[-1]
    if local[0] != b"PK\x03\x04" or start + size > len(data):
        raise CorruptArtifact(f"{name}: its contents lie outside of the torch stream")
    return Entry(name, header, start, start + size), following
