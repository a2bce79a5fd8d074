"""Files on disks that fill up, forbid or vanish: replaced whole or not at all, and for studies one sentence when it
fails.

Owns the one way in which a file, or a folder of files, is written whole: aside, flushed to the disk, renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
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


@contextlib.contextmanager
def replacing(path: Path, aside: Path | None = None, durable: bool = True) -> Iterator[Path]:
    """An empty file to be written in the block, which then takes the place of `path` in one step.

    A crash leaves either the old file or the new one, and a block that fails leaves the old one and no trace.
    `aside`: where it is written, by default PATH.tmp; one that is not `durable` may be torn by a power cut.
    Raises: OSError that names `path`.
    """
    aside = aside or path.with_name(path.name + ".tmp")
    try:
        aside.write_bytes(b"")
        yield aside
        if durable:
            sync(aside)
        aside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(aside)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    if durable:
        with contextlib.suppress(OSError):  # the file is there and whole; some file systems sync no directories
            sync(path.parent)


def refuse_occupied(path: Path, replaceable: Sequence[str] = ()) -> None:
    """Raises: FileExistsError unless a folder may take the place of `path`: nothing is there, or an empty folder, or
    one whose files all have names that `replaceable` (glob patterns) knows."""
    found = sorted(item.name for item in path.iterdir()) if path.is_dir() else [path.name] if path.exists() else []
    foreign = [name for name in found if not any(fnmatch.fnmatchcase(name, known) for known in replaceable)]
    if foreign and replaceable:
        raise FileExistsError(
            errno.EEXIST, f"holds {foreign[0]}, which is not replaced; give another name", str(path)
        )
    if foreign:
        raise FileExistsError(errno.EEXIST, "exists; give another name, or --force to replace it", str(path))


@contextlib.contextmanager
def replacing_folder(path: Path, replaceable: Sequence[str] = ()) -> Iterator[Path]:
    """An empty folder to be filled in the block, which then takes the place of `path` in one step.

    A block that fails leaves what was there, and no trace. Raises: as `refuse_occupied`; OSError.
    """
    refuse_occupied(path, replaceable)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        new, old = aside / "new", aside / "old"
        new.mkdir()
        yield new
        for item in new.iterdir():
            sync(item)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        sync(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` as `replacing` does. Raises: OSError when the file cannot be written."""
    with replacing(path) as aside:
        fd = os.open(aside, os.O_WRONLY | os.O_CLOEXEC)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)


def refuse_existing(path: Path, force: bool) -> None:
    """Raises: FileExistsError when `path` exists, unless `force`: known before the work, not after."""
    if path.exists() and not force:
        raise FileExistsError(errno.EEXIST, "exists; give another name, or force=True to replace it", str(path))


def replace_study_file(path: Path, data: bytes) -> None:
    """`replace_file` for a file of a study. Raises: StudyError that says what to do."""
    with refusing(path, "write it"):
        replace_file(path, data)


def write_all(fd: int, data: bytes) -> None:
    """Every byte of `data`, however few the system takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync(path: Path) -> None:
    """Returns when the contents of a file, or the names in a directory, are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
