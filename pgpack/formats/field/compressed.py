"""Compressed streams that say what they are: the byte codecs of the field's files, undone within a byte limit.

The field's files do not name their codec or their length, so both are found in the stream itself. brotli has no
mark and is tried last. Refuses codecs that cannot be recognized (shuffle, lrzip): such a file could not be read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from pgpack.codecs import BYTE_CODECS
from pgpack.codecs.base import ByteCodec
from pgpack.codecs.streams import XZ_MEMORY_LIMIT, ZSTD_STEP, ZSTD_WINDOW_LIMIT, brotli_in_steps, brotli_limited
from pgpack.errors import CorruptArtifact, FormatError, RecipeError, TruncatedArtifact

RECOGNIZED = ("zlib", "bz2", "lzma", "zstd", "brotli")
_MARKS = ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "lzma"), (b"BZh", "bz2"))


def compress(data: bytes, codecs: Sequence[ByteCodec], container: str) -> bytes:
    """`data` through `codecs` in order. Raises RecipeError on a codec that a reader could not recognize."""
    known = tuple(BYTE_CODECS[name] for name in RECOGNIZED)
    for codec in codecs:
        if not isinstance(codec, known):
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
    plain, finished, trailing = _DECODERS[name](data, limit + 1)
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


def _inflate(data: bytes, limit: int) -> tuple[bytes, bool, bool]:
    decoder = zlib.decompressobj()
    try:
        plain = decoder.decompress(data, limit)
    except zlib.error as error:
        raise CorruptArtifact(f"a zlib stream does not decode: {error}") from None
    return plain, decoder.eof, bool(decoder.unused_data)


def _unxz(data: bytes, limit: int) -> tuple[bytes, bool, bool]:
    import lzma

    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY_LIMIT)
    try:
        plain = decoder.decompress(data, limit)
    except (lzma.LZMAError, MemoryError) as error:
        raise CorruptArtifact(f"an xz stream does not decode: {error}") from None
    return plain, decoder.eof, bool(decoder.unused_data)


def _bunzip(data: bytes, limit: int) -> tuple[bytes, bool, bool]:
    import bz2

    decoder = bz2.BZ2Decompressor()
    try:
        plain = decoder.decompress(data, limit)
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"a bz2 stream does not decode: {error}") from None
    return plain, decoder.eof, bool(decoder.unused_data)


def _unzstd(data: bytes, limit: int) -> tuple[bytes, bool, bool]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_LIMIT).decompressobj()
    view, parts, found, position = memoryview(data), [], 0, 0
    try:
        while position < len(data) and not decoder.eof and found < limit:
            parts.append(decoder.decompress(view[position : position + ZSTD_STEP]))
            found += len(parts[-1])
            position += ZSTD_STEP
    except (zstandard.ZstdError, MemoryError) as error:
        raise CorruptArtifact(f"a zstd frame does not decode: {error}") from None
    return b"".join(parts), decoder.eof, bool(decoder.unused_data) or position < len(data)


def _unbrotli(data: bytes, limit: int) -> tuple[bytes, bool, bool]:
    import brotli

    decoder: Any = brotli.Decompressor()
    bounded = hasattr(decoder, "can_accept_more_data")  # since brotli 1.2
    try:
        plain = (brotli_limited if bounded else brotli_in_steps)(decoder, data, limit)
    except (brotli.error, MemoryError) as error:
        raise CorruptArtifact(f"no known mark, and not a brotli stream: {error}") from None
    return plain, bool(decoder.is_finished()), False


_DECODERS: dict[str, Callable[[bytes, int], tuple[bytes, bool, bool]]] = {
    "zlib": _inflate,
    "lzma": _unxz,
    "bz2": _bunzip,
    "zstd": _unzstd,
    "brotli": _unbrotli,
}
