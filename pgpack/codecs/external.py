"""Byte codecs that are external programs: lrzip (ZPAQ back end) and zpaq, run by `programs`.

lrzip would run at the lowest priority (`-N 19`), which takes minutes beside a busy process.
Output is deterministic: lrzip 0.65 stores no time and no name, and its bytes do not depend on threads; zpaq stores
both, so we give it a fixed name, a fixed file time and a fixed version date.
Refuses: encrypted or multi-file archives. Empty data is the empty stream.
These programs parse what they are given with native code; an artifact that names them deserves the trust that
running the program deserves.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import ClassVar

from pgpack.errors import CorruptArtifact

from .programs import decode_file, encode_file, find_tool, printed
from .settings import require_range


@dataclass(frozen=True)
class Lrzip:
    """lrzip with its ZPAQ back end, `lrzip -z -L level`.

    Use when: the last percent counts more than minutes: it decodes as slowly as it encodes, by an external program.

    *Layout* lrzip's own file: bytes 6 to 13 hold the plain length, the last 16 the plain MD5; both are checked.
    """

    level: int = 9
    encoder_only: ClassVar[frozenset[str]] = frozenset({"level"})

    def __post_init__(self) -> None:
        require_range("lrzip level", self.level, 1, 9)

    def encode(self, data: bytes) -> bytes:
        if not data:
            return b""
        tool = find_tool("lrzip")
        # -p 1 -m 10: one thread, 1000 MB assumed, so that the host's cores and memory do not reach the bytes
        settings = ["-z", "-L", str(self.level), "-Q", "-N", "0", "-p", "1", "-m", "10"]
        return encode_file([tool, *settings, "-o", "d.lrz", "d"], data, "d.lrz")

    def decode(self, data: bytes, n_bytes: int) -> bytes:
        if not data and not n_bytes:
            return b""
        if data[:4] != b"LRZI" or int.from_bytes(data[6:14], "little") != n_bytes:
            raise CorruptArtifact(f"not an lrzip stream of {n_bytes} bytes")
        command = [find_tool("lrzip"), "-d", "-Q", "-N", "0", "-p", "1", "-m", "10", "-o", "out", "d.lrz"]
        plain = decode_file("lrzip", [command], data, "d.lrz", n_bytes)
        if hashlib.md5(plain, usedforsecurity=False).digest() != data[-16:]:
            raise CorruptArtifact("an lrzip stream does not match its MD5")
        return plain


@dataclass(frozen=True)
class Zpaq:
    """The zpaq archiver, one file in a journaling archive.

    Use when: as `lrzip`, where only the program zpaq is installed.

    *Layout* the archive, then its CRC-32 (little-endian), because zpaq ignores what follows an archive.
    Extraction only starts when the archive lists exactly one file, `d`: other names could leave the directory.
    """

    level: int = 5
    encoder_only: ClassVar[frozenset[str]] = frozenset({"level"})

    def __post_init__(self) -> None:
        require_range("zpaq level", self.level, 1, 5)

    def encode(self, data: bytes) -> bytes:
        if not data:
            return b""
        settings = ["-method", str(self.level), "-noattributes", "-threads", "1", "-until", "2000-01-01 00:00:00"]
        archive = encode_file([find_tool("zpaq"), "add", "a.zpaq", "d", *settings], data, "a.zpaq")
        return archive + zlib.crc32(archive).to_bytes(4, "little")

    def decode(self, data: bytes, n_bytes: int) -> bytes:
        if not data and not n_bytes:
            return b""
        archive = data[:-4]
        if zlib.crc32(archive).to_bytes(4, "little") != data[-4:]:
            raise CorruptArtifact("a zpaq stream does not match its CRC-32")
        tool = find_tool("zpaq")
        require_one_file(printed([tool, "list", "a.zpaq"], archive, "a.zpaq", n_bytes), n_bytes)
        command = [tool, "extract", "a.zpaq", "d", "-to", "out", "-threads", "1"]
        return decode_file("zpaq", [command], archive, "a.zpaq", n_bytes)


def require_one_file(listing: str | None, n_bytes: int) -> None:
    """Raises CorruptArtifact unless the listing of an archive is the one line of the file that we store."""
    summary, _, entries = (listing or "").partition("\n\n")  # the summary comes before any stored name
    entry = ["-", "2000-01-01", "00:00:00", str(n_bytes), "d"]
    if " 1 versions, 1 files," not in summary or entries.partition("\n\n")[0].split() != entry:
        raise CorruptArtifact(f"a zpaq archive does not list exactly one file of {n_bytes} bytes")
