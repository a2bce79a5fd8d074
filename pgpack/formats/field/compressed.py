"""Compressed streams that say what they are: the byte codecs of the field's files, undone within a byte limit.

The field's files do not name their codec or their length, so both are found in the stream itself. brotli has no
mark and is tried last. Refuses codecs that cannot be recognized (shuffle, lrzip): such a file could not be read.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgpack.codecs import BYTE_CODECS
from pgpack.codecs.base import ByteCodec
from pgpack.codecs.streams import StreamCodec
from pgpack.errors import CorruptArtifact, FormatError, RecipeError, TruncatedArtifact

RECOGNIZED = ("zlib", "bz2", "lzma", "zstd", "brotli")
_MARKS = ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "lzma"), (b"BZh", "bz2"))


def compress(data: bytes, codecs: Sequence[ByteCodec], container: str) -> bytes:
    """`data` through `codecs` in order. Raises RecipeError on a codec that a reader could not recognize."""
    for codec in codecs:
        if not isinstance(codec, StreamCodec):
            raise RecipeError(
                f"@container={container} cannot be followed by {type(codec).__name__.lower()}: the field's files "
                f"name no codec, and only {', '.join(RECOGNIZED)} are recognized by content"
            )
        data = codec.encode(data)
    return data


def decompress(data: bytes, limit: int) -> bytes:
    """One layer of compression undone, found by content.

    Raises FormatError above `limit` bytes, TruncatedArtifact when the stream ends early, CorruptArtifact when it is
    no stream of RECOGNIZED, or bytes follow it.
    """
    name = codec_of(data)
    codec: StreamCodec = BYTE_CODECS[name]()
    try:
        plain, finished, trailing = codec.expand(data, limit + 1)
    except CorruptArtifact as error:
        if name != "brotli":
            raise
        raise CorruptArtifact(f"no known mark, and not a brotli stream: {str(error).partition(': ')[2]}") from None
    if len(plain) > limit:
        raise FormatError(f"a {name} stream decodes to more than the limit of {limit:,} bytes")
    if not finished:
        raise TruncatedArtifact(f"a {name} stream of {len(data):,} bytes ends early; the file was cut short")
    if trailing:
        raise CorruptArtifact(f"bytes follow the end of a {name} stream")
    return plain


def codec_of(data: bytes) -> str:
    """The codec that wrote a stream; 'brotli' when it has no mark, as brotli's have none."""
    if len(data) >= 2 and data[0] == 0x78 and int.from_bytes(data[:2], "big") % 31 == 0:
        return "zlib"
    return next((name for mark, name in _MARKS if data.startswith(mark)), "brotli")
