"""The byte layout of an artifact (see FORMAT.md): prefix, header, body, and their integrity checks.

    | magic "PGPK" | version u8 | header_len u32 | body_len u64 | prefix crc u32 | header | body | crc u32 |

All integers are little-endian. The header is raw-deflated JSON. Owns framing only; what the header means is in
`reader` and `writer`.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from pgpack.errors import CorruptArtifact, FormatError, TruncatedArtifact, UnsupportedVersion

from .json_text import parse_object

MAGIC = b"PGPK"
VERSION = 1
PREFIX = struct.Struct("<4sBIQ")
PREFIX_LEN = PREFIX.size + 4
HEADER_LIMIT = 16 << 20  # bytes of JSON


def frame(header: dict[str, Any], *body: bytes) -> bytes:
    """The whole file for a header and the parts of a body."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(text) + deflate.flush()
    prefix = PREFIX.pack(MAGIC, VERSION, len(packed), sum(map(len, body)))
    prefix += zlib.crc32(prefix).to_bytes(4, "little")
    crc = zlib.crc32(packed)
    for part in body:
        crc = zlib.crc32(part, crc)
    return b"".join([prefix, packed, *body, crc.to_bytes(4, "little")])


def unframe(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """(header, body) of a file.

    Raises FormatError (not an artifact), TruncatedArtifact, UnsupportedVersion or CorruptArtifact; a file that
    passes has no bit that differs from what was written, up to CRC-32's strength.
    """
    if data[:4] != MAGIC[: len(data)]:
        raise FormatError(f"not a pgpack artifact: starts with {bytes(data[:4])!r}, expected {MAGIC!r}")
    if len(data) < PREFIX_LEN:
        raise TruncatedArtifact(f"the file has {len(data)} bytes; even the prefix takes {PREFIX_LEN}")
    _, version, header_len, body_len = PREFIX.unpack_from(data)
    prefix_ok = zlib.crc32(data[: PREFIX.size]) == int.from_bytes(data[PREFIX.size : PREFIX_LEN], "little")
    if not prefix_ok:
        raise CorruptArtifact("the first 17 bytes fail their check; the file is damaged")
    if version != VERSION:
        raise UnsupportedVersion(f"format version {version}; this pgpack reads version {VERSION}")
    expected = PREFIX_LEN + header_len + body_len + 4
    if len(data) < expected:
        raise TruncatedArtifact(f"the file has {len(data)} bytes and declares {expected}; it was cut short")
    if len(data) > expected:
        raise CorruptArtifact(f"{len(data) - expected} bytes follow the declared end at {expected}")
    if zlib.crc32(memoryview(data)[PREFIX_LEN : expected - 4]) != int.from_bytes(data[expected - 4 :], "little"):
        raise CorruptArtifact("the contents fail their check; the file is damaged")
    packed = data[PREFIX_LEN : PREFIX_LEN + header_len]
    body = memoryview(data)[PREFIX_LEN + header_len : expected - 4]
    return _parse_header(packed), body


def header_length(data: bytes) -> int:
    """Bytes that the header takes in a file that `unframe` accepts."""
    return int(PREFIX.unpack_from(data)[2])


def _parse_header(packed: bytes) -> dict[str, Any]:
    inflate = zlib.decompressobj(-15)
    try:
        text = inflate.decompress(packed, HEADER_LIMIT)
        if not inflate.eof and len(text) == HEADER_LIMIT:
            raise CorruptArtifact(f"the header inflates to more than {HEADER_LIMIT >> 20} MiB")
        if not inflate.eof or inflate.unused_data:
            raise CorruptArtifact("the header does not inflate to a whole document")
        return parse_object(text)
    except (zlib.error, ValueError) as error:
        raise CorruptArtifact(f"the header is unreadable ({error})") from None
