"""Files of a study on disks that fill up, forbid or vanish: whole or not at all, and one sentence when it fails.

A study's files besides the journal are replaced in one step, so that a crash or a full disk leaves the old ones.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import StudyError

_REMEDIES = {
    errno.ENOSPC: "free some space and repeat the same command",
    errno.EDQUOT: "free some of your quota and repeat the same command",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and repeat the same command",
    errno.EACCES: "give a directory that you may write to, or have its owner change its mode",
    errno.EPERM: "give a directory that you may write to, or have its owner change its mode",
    errno.EROFS: "give a directory on a file system that is not read-only",
    errno.ENOLCK: "give a directory on a file system that has locks",
}
_ELSEWHERE = "repeat the same command once that is mended"


def refused(path: Path, deed: str, error: OSError) -> StudyError:
    """The sentence for an operating system that refuses `deed` (a verb with its object) at `path`."""
    remedy = _REMEDIES.get(error.errno or 0, _ELSEWHERE)
    reason = error.strerror or type(error).__name__
    return StudyError(f"{path}: cannot {deed}: {reason}; the trials on disk are intact; {remedy}")


@contextlib.contextmanager
def refusing(path: Path, deed: str) -> Iterator[None]:
    """Turns an OSError of the block into the StudyError of `refused`."""
    try:
        yield
    except OSError as error:
        raise refused(path, deed, error) from error


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` so that a crash leaves either the old file or the new one, and no trace of a failed attempt.

    Raises: StudyError when the file cannot be written; the old one is then still there.
    """
    staging = path.with_name(path.name + ".tmp")
    with refusing(path, "write it"):
        try:
            fd = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            staging.replace(path)
            sync_directory(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                staging.unlink(missing_ok=True)
            raise


def write_all(fd: int, data: bytes) -> None:
    """Every byte of `data`, however few the system takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_directory(directory: Path) -> None:
    """Returns when the names in `directory` are on disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
