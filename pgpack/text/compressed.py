"""Files that may be compressed, read as streams: .gz, .xz, .zst by the end of their names, others as they are."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pgpack.errors import DataError
from pgpack.files import pointer_in

PACKED = (".gz", ".xz", ".zst")
CHUNK = 1 << 17


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The contents of a file, decompressed as they are read. Raises: DataError for a part of it, or a pointer."""
    refuse_pointer(path)
    kind = path.suffix.lower()
    with open(path, "rb") as file, contextlib.ExitStack() as stack:
        stream: Any = file
        if kind == ".gz":
            stream = stack.enter_context(gzip.GzipFile(fileobj=file))
        elif kind == ".xz":
            stream = stack.enter_context(lzma.LZMAFile(file))
        elif kind == ".zst":
            stream = stack.enter_context(io.BufferedReader(_Zstandard(file), CHUNK))
        try:
            yield stream
        except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error, _Incomplete) as error:
            raise DataError(f"{path} is not a complete {kind} file: {error}") from None


def refuse_pointer(path: Path) -> None:
    """Raises DataError when a file is what git-lfs or git-annex leaves in place of the contents."""
    if what := pointer_in(path):
        raise DataError(f"{path} is {what}")


class _Incomplete(Exception):
    pass


class _Zstandard(io.RawIOBase):
    """One .zst file of any number of frames. (The library's own reader takes a file cut short for a whole one.)"""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        # Long-distance archives use windows up to 2^27 and more; the default limit would refuse them.
        self.library = zstandard.ZstdDecompressor(max_window_size=2**31)
        self.error = zstandard.ZstdError
        self.file, self.frame = file, self.library.decompressobj()
        self.held = memoryview(b"")
        self.begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.held and self._more():
            pass
        n = min(len(buffer), len(self.held))
        buffer[:n] = self.held[:n]
        self.held = self.held[n:]
        return n

    def _more(self) -> bool:
        """Decompress some more; False at the end of the file."""
        data = self.frame.unused_data if self.frame.eof else b""
        data = data or self.file.read(CHUNK)
        if not data:
            if self.begun and not self.frame.eof:
                raise _Incomplete("it ends inside a frame")
            return False
        if self.frame.eof:
            self.frame = self.library.decompressobj()
        self.begun = True
        try:
            self.held = memoryview(self.frame.decompress(data))
        except self.error as error:
            raise _Incomplete(error) from None
        return True
