"""Byte codecs that are external programs: lrzip (ZPAQ back end) and zpaq.

Both run in a temporary directory of their own, single-threaded, without the user's configuration, under a time
limit; decoders also under limits of file size (`ulimit -f`) and address space (`ulimit -v`). Output is
deterministic: lrzip 0.65 stores no time and no name, and its bytes do not depend on threads; zpaq stores both, so
we give it a fixed name, a fixed file time and a fixed version date.
Refuses: encrypted or multi-file archives. Empty data is the empty stream.
These programs parse what they are given with native code; an artifact that names them deserves the trust that
running the program deserves.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..errors import CorruptArtifact, PgpackError, ToolMissing
from .settings import require_range

ADDRESS_SPACE_KIB = 4 << 20  # of a decoder; both programs decode in less than 1 GiB
EPOCH = 946_684_800  # 2000-01-01T00:00:00Z
# 1: blocks of 512 bytes per file, 2: KiB of address space
LIMITED = ["/bin/sh", "-c", 'ulimit -f "$1"; ulimit -v "$2"; shift 2; exec "$@"', "sh"]


def time_limit_s(n_bytes: int) -> float:
    """Seconds a program may take: ZPAQ's slowest level needs about 4 s per MB on a slow core."""
    return 60 + 40 * n_bytes / 1e6


def find_tool(program: str) -> str:
    """Path of `program`. Raises ToolMissing with the package to install."""
    path = shutil.which(program)
    if path is None:
        raise ToolMissing(f"the {program} codec needs the program {program}: install the Debian package {program}")
    return path


def run_tool(command: Sequence[str], directory: str, n_bytes: int) -> str | None:
    """Standard output of `command`, None when it fails. Raises PgpackError after the time limit."""
    environment = {"PATH": os.defpath, "LRZIP": "NOCONFIG", "TMPDIR": directory, "TMP": directory, "TZ": "UTC"}
    limit = time_limit_s(n_bytes)
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PgpackError(f"{Path(command[0]).name} took more than {limit:.0f} s on {n_bytes} bytes") from None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def encode_file(command: Sequence[str], data: bytes, output: str) -> bytes:
    """What `command` makes of the file `d` (dated EPOCH) that holds `data`."""
    with tempfile.TemporaryDirectory(prefix="pgpack-") as directory:
        source = Path(directory, "d")
        source.write_bytes(data)
        os.utime(source, (EPOCH, EPOCH))
        target = Path(directory, output)
        if run_tool(command, directory, len(data)) is None or not target.is_file():
            raise PgpackError(f"{Path(command[0]).name} failed to compress {len(data)} bytes")
        return target.read_bytes()


def decode_file(name: str, commands: Sequence[Sequence[str]], data: bytes, archive: str, n_bytes: int) -> bytes:
    """The file `out` that `commands` make of the file `archive`. Raises CorruptArtifact."""
    limits = [str((max(n_bytes, len(data)) >> 9) + 64), str(ADDRESS_SPACE_KIB + 8 * (n_bytes >> 10))]
    with tempfile.TemporaryDirectory(prefix="pgpack-") as directory:
        Path(directory, archive).write_bytes(data)
        target = Path(directory, "out")
        try:
            for command in commands:
                if run_tool([*LIMITED, *limits, *command], directory, n_bytes) is None:
                    raise CorruptArtifact(f"{name} refuses its stream of {len(data)} bytes")
        except CorruptArtifact:
            raise
        except PgpackError as error:
            raise CorruptArtifact(f"{name} does not finish its stream: {error}") from None
        if target.is_symlink() or not target.is_file() or target.stat().st_size != n_bytes:
            raise CorruptArtifact(f"{name} does not decode its stream to the declared {n_bytes} bytes")
        return target.read_bytes()


@dataclass(frozen=True)
class Lrzip:
    """lrzip with its ZPAQ back end, `lrzip -z -L level`.

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
        settings = ["-z", "-L", str(self.level), "-Q", "-p", "1", "-m", "10"]
        return encode_file([tool, *settings, "-o", "d.lrz", "d"], data, "d.lrz")

    def decode(self, data: bytes, n_bytes: int) -> bytes:
        if not data and not n_bytes:
            return b""
        if data[:4] != b"LRZI" or int.from_bytes(data[6:14], "little") != n_bytes:
            raise CorruptArtifact(f"not an lrzip stream of {n_bytes} bytes")
        command = [find_tool("lrzip"), "-d", "-Q", "-p", "1", "-m", "10", "-o", "out", "d.lrz"]
        plain = decode_file("lrzip", [command], data, "d.lrz", n_bytes)
        if hashlib.md5(plain, usedforsecurity=False).digest() != data[-16:]:
            raise CorruptArtifact("an lrzip stream does not match its MD5")
        return plain


@dataclass(frozen=True)
class Zpaq:
    """The zpaq archiver, one file in a journaling archive.

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
        self.require_one_file(tool, archive, n_bytes)
        command = [tool, "extract", "a.zpaq", "d", "-to", "out", "-threads", "1"]
        return decode_file("zpaq", [command], archive, "a.zpaq", n_bytes)

    def require_one_file(self, tool: str, archive: bytes, n_bytes: int) -> None:
        """Raises CorruptArtifact unless the listing of `archive` is the one line of the file that we store."""
        with tempfile.TemporaryDirectory(prefix="pgpack-") as directory:
            Path(directory, "a.zpaq").write_bytes(archive)
            limits = [str((len(archive) >> 9) + 64), str(ADDRESS_SPACE_KIB)]
            listing = run_tool([*LIMITED, *limits, tool, "list", "a.zpaq"], directory, n_bytes)
        summary, _, entries = (listing or "").partition("\n\n")  # the summary comes before any stored name
        entry = ["-", "2000-01-01", "00:00:00", str(n_bytes), "d"]
        if " 1 versions, 1 files," not in summary or entries.partition("\n\n")[0].split() != entry:
            raise CorruptArtifact(f"a zpaq archive does not list exactly one file of {n_bytes} bytes")
