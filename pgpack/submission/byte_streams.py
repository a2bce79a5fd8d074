"""The byte codecs of the decoder of a submission: the bytes before a codec, never many more than are declared."""

from __future__ import annotations

import bz2
import lzma
import zlib

import numpy as np


def shuffle(data: bytes, n_bytes: int, stride: int = 2) -> bytes:
    """Bytes from their strands."""
    plain, at = np.zeros(n_bytes, np.uint8), 0
    for i in range(stride):
        strand = plain[i::stride]
        strand[:] = np.frombuffer(data, np.uint8, strand.size, at)
        at += strand.size
    return plain.tobytes()


def unzlib(data: bytes, n_bytes: int) -> bytes:
    """A zlib stream."""
    return zlib.decompressobj().decompress(data, n_bytes + 1)


def unbz2(data: bytes, n_bytes: int) -> bytes:
    """A bz2 stream."""
    return bz2.BZ2Decompressor().decompress(data, n_bytes)


def unlzma(data: bytes, n_bytes: int) -> bytes:
    """An xz stream."""
    return lzma.LZMADecompressor().decompress(data, n_bytes)


def unbrotli(data: bytes, n_bytes: int) -> bytes:
    """A brotli stream."""
    import brotli

    decoder, parts, at, found = brotli.Decompressor(), [b""], 0, 0
    while at < len(data) and found < n_bytes:  # 16 bytes may stand for 32 MiB
        parts.append(decoder.process(data[at : at + 16]))
        found += len(parts[-1])
        at += 16
    return b"".join(parts)


def unzstd(data: bytes, n_bytes: int) -> bytes:
    """A zstd frame."""
    import zstandard

    return zstandard.ZstdDecompressor().stream_reader(data).read(n_bytes)
