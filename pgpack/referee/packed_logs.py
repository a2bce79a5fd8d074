"""Logs that were compressed or put into an archive: their text, as far as it is one.

    train.log.gz, train.log.zst, logs.zip, logs.tar.xz --decompressed, members joined--> text

Refuses more than `LIMIT` bytes of anything, and files with bytes that belong to no text.
"""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from typing import Protocol

from .packed_code import LIMIT

_ZSTD = b"\x28\xb5\x2f\xfd"
_STARTS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"PK\x03\x04", _ZSTD)
_NOT_TEXTS = (".py", ".npz", ".npy", ".pt", ".bin")
MEMBERS = 100


class _Stream(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def packed_text(data: bytes) -> bytes:
    """What a compressed file or an archive of texts holds, whole and in one; b'' for any other file."""
    if not data.startswith(_STARTS):
        return b""
    try:
        if data.startswith(b"PK"):
            return _of_zip(data)
        inner = _of_zstd(data) if data.startswith(_ZSTD) else _whole(data)
        return _of_tar(inner) if inner[257:262] == b"ustar" else inner
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        tarfile.TarError,
    ):
        return b""


def _whole(data: bytes) -> bytes:
    streams: dict[bytes, _Stream] = {
        b"\x1f\x8b": zlib.decompressobj(31),
        b"BZ": bz2.BZ2Decompressor(),
        b"\xfd7": lzma.LZMADecompressor(memlimit=256 << 20),
    }
    stream = streams[data[:2]]
    found = stream.decompress(data, LIMIT)
    return found if stream.eof and not stream.unused_data else b""


def _of_zstd(data: bytes) -> bytes:
    """In small steps: there is no bound of what one step gives but that of the blocks in it."""
    try:
        import zstandard
    except ImportError:
        return b""
    stream, found = zstandard.ZstdDecompressor(max_window_size=LIMIT).decompressobj(), bytearray()
    try:
        for at in range(0, len(data), 64):
            if stream.eof or len(found) > LIMIT:
                return b""
            found += stream.decompress(data[at : at + 64])
    except zstandard.ZstdError:
        return b""
    return bytes(found) if stream.eof and not stream.unused_data and len(found) <= LIMIT else b""


def _of_zip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [item for item in archive.infolist() if not item.is_dir()]
        texts = all(not item.filename.lower().endswith(_NOT_TEXTS) for item in members)
        if not texts or len(members) > MEMBERS or sum(item.file_size for item in members) > LIMIT:
            return b""
        held = sum(item.compress_size for item in members)
        if len(data) > held + 1024 * (1 + len(members)):
            return b""  # bytes that are no member's
        return b"\n".join(archive.read(item) for item in members)


def _of_tar(data: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [item for item in archive.getmembers()[: MEMBERS + 1] if item.isfile()]
        if len(members) > MEMBERS or any(item.name.lower().endswith(_NOT_TEXTS) for item in members):
            return b""
        files = [archive.extractfile(item) for item in members]
        return b"\n".join(file.read(LIMIT) for file in files if file is not None)
