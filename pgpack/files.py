"""Files on disks that fill up, forbid or vanish: replaced whole or not at all. And files that are read: what they
were when reading began, or the work stops.

    PATH.tmp, locked by its writer --flushed to the disk, renamed--> PATH        killed: the next writer begins anew

Owns the one way in which a file, or a folder of files, is written whole and by one process at a time, what tells a
file from another in its place, the checksum of JSON, and temporary folders.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import FormatError, InputChanged, NoArtifact

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

_FULL = (errno.ENOSPC, errno.EDQUOT)
POINTERS = {  # how what version control leaves in the place of a large file begins -> what it is, what to do
    b"version https://git-lfs": "a git-lfs pointer, not the file itself; run `git lfs pull` there",
    b"/annex/objects/": "a git-annex pointer, not the file itself; run `git annex get` there",
}
LONGEST_POINTER = 1024  # bytes; the specification of git-lfs
READ = 4 << 30  # bytes of a file that is read whole, as many as decoding holds
WORKPLACE = "pgpack-work-"  # how names of temporary folders begin
_EXCHANGE = 2  # flag of renameat2, linux/fs.h


class NoRoom(OSError):
    """A file that its disk has no room for. Units: `n_bytes`, of the whole file; None where that is not known."""

    n_bytes: int | None = None


@contextlib.contextmanager
def replacing(
    path: Path, aside: Path | None = None, durable: bool = True, n_bytes: int | None = None
) -> Iterator[Path]:
    """An empty file to be written in the block, which then takes the place of `path` in one step.

    A crash leaves either the old file or the new one, and a block that fails leaves the old one and no trace. What a
    killed writer left is written over. `aside`: where it is written, by default PATH.tmp; one that is not `durable`
    may be torn by a power cut. Units: `n_bytes` it will have, for the message of a full disk.
    Raises: OSError that names `path`; BlockingIOError while another process writes it; NoRoom. A pipe or a device is
    never replaced.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "a pipe or a device, which no file takes the place of", str(path))
    aside = aside or path.with_name(path.name + ".tmp")
    try:
        held = _locked(aside, path)
        try:
            os.ftruncate(held, 0)
            yield aside
            if durable:
                sync(aside)
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        finally:
            os.close(held)
    except OSError as error:
        if error.errno and error.filename in (None, str(aside)):
            raise _named(error, path, n_bytes) from None
        raise
    if durable:
        with contextlib.suppress(OSError):  # the file is there and whole; some file systems sync no directories
            sync(path.parent)


def _named(error: OSError, path: Path, n_bytes: int | None) -> OSError:
    """The same error of `path`."""
    if error.errno not in _FULL:
        return OSError(error.errno, error.strerror, str(path))
    full = NoRoom(error.errno, error.strerror, str(path))
    full.n_bytes = n_bytes
    return full


def _locked(aside: Path, path: Path) -> int:
    """A descriptor of the file or folder at `aside`, made where it is not there, that no other process has locked.

    Raises: BlockingIOError while another process writes `path`. A file system without locks is taken as it is.
    """
    import fcntl  # POSIX only, and only writers need it

    flags = os.O_RDONLY if aside.is_dir() else os.O_RDWR | os.O_CREAT
    while True:
        held = os.open(aside, flags | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            said = "another process is writing it; wait for it to end or give another name"
            raise BlockingIOError(errno.EWOULDBLOCK, said, str(path)) from None
        except OSError:
            return held
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), aside.stat()):
                return held
        os.close(held)  # its writer has finished meanwhile: what was opened has another name by now


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """While the block lasts, no other process is in one of the same output: the second is refused before its work.

    PATH.lock is locked, which the system undoes when its holder dies, and removed in the end with the folders that
    were made for it, where nothing else came into them. Raises: OSError that names `path`; BlockingIOError.
    """
    lock = path.with_name(path.name + ".lock")
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held = _locked(lock, path)
        except OSError as error:
            raise _named(error, path, None) if error.filename == str(lock) else error from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            os.close(held)
    finally:
        with contextlib.suppress(OSError):  # from the inside out, up to one that holds something
            for folder in made:
                folder.rmdir()


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` as `replacing` does. Raises: OSError when the file cannot be written."""
    with replacing(path, n_bytes=len(data)) as aside:
        _fill(aside, data)


def replace_together(files: Sequence[tuple[Path, bytes]], stale: Iterable[Path] = ()) -> None:
    """Write files that belong together, each as `replacing` does. The last one tells that all are there: all are on
    the disk before any has its name, and where there was one like it, that goes first, and with it what is `stale` of
    the older set.

    Raises: OSError as `replacing`; nothing has changed then, unless the disk fails between two names.
    """
    with contextlib.ExitStack() as stack:
        last_first = [(stack.enter_context(replacing(path, n_bytes=len(data))), data) for path, data in files[::-1]]
        for aside, data in last_first:
            _fill(aside, data)
            sync(aside)
        for path in (files[-1][0], *stale):
            path.unlink(missing_ok=True)


def _fill(aside: Path, data: bytes) -> None:
    """Raises: OSError that names `aside`."""
    fd = os.open(aside, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_all(fd, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(aside)) from None
    finally:
        os.close(fd)


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

    A crash leaves either the old folder or the new one, and a block that fails leaves the old one and no trace. What
    a killed writer left in PATH.tmp is removed. Raises: as `refuse_occupied`; OSError as `replacing`.
    """
    aside, old = path.with_name(path.name + ".tmp"), _old(path)
    if old.exists() and not path.exists():
        old.rename(path)
    refuse_occupied(path, replaceable)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.mkdir(exist_ok=True)
        held = _locked(aside, path)
        try:
            for left in aside.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield aside
            for item in aside.iterdir():
                sync(item)
            _exchange(aside, path)
        finally:
            for left_over in (aside, old):
                shutil.rmtree(left_over, ignore_errors=True)
            os.close(held)
    except OSError as error:
        name = str(error.filename or "")
        if error.errno and (not name or Path(name).is_relative_to(aside)):
            raise _named(
                error, path / Path(name or aside).relative_to(aside), getattr(error, "n_bytes", None)
            ) from None
        raise
    with contextlib.suppress(OSError):
        sync(path.parent)


def _exchange(aside: Path, path: Path) -> None:
    """The folder `aside` under the name `path`; what was there under the name `aside`, where it was not empty."""
    try:
        aside.rename(path)  # of nothing and of an empty folder
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    import ctypes

    names = os.fsencode(aside), os.fsencode(path)
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux; elsewhere there is a moment with no folder
    if renameat2 is not None and renameat2(-100, names[0], -100, names[1], _EXCHANGE) == 0:
        return
    path.rename(_old(path))
    aside.rename(path)


def _old(path: Path) -> Path:
    """Where a folder lies for the moment in which another takes its place."""
    return path.with_name(path.name + ".old.tmp")


@contextlib.contextmanager
def workplace(kind: str) -> Iterator[str]:
    """A temporary folder that is gone in the end; where its process is killed, with the next call of anybody's.

    Whether its process lives is told by a lock on it, which the system drops; without locks it stays.
    """
    made, held = _made_and_held(f"{WORKPLACE}{kind}-")
    try:
        with made as name:
            _remove_abandoned(Path(name))
            yield name
    finally:
        os.close(held)


def _made_and_held(prefix: str) -> tuple[TemporaryDirectory[str], int]:
    import fcntl  # POSIX only
    from tempfile import TemporaryDirectory

    while True:
        made = TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
        with contextlib.suppress(FileNotFoundError):  # somebody took it for an abandoned one before it was locked
            held = os.open(made.name, os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_EX)
            if os.path.exists(made.name):
                return made, held
            os.close(held)
        made.cleanup()


def _remove_abandoned(own: Path) -> None:
    """Remove the workplaces beside `own` whose process is gone."""
    import fcntl  # POSIX only

    for left in own.parent.glob(f"{WORKPLACE}*"):
        with contextlib.suppress(OSError):  # of somebody else, of a process that lives, or gone meanwhile
            if left == own or left.lstat().st_uid != os.getuid():
                continue
            held = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)


def remove(path: Path) -> None:
    """Remove a file, if it is there, and what a killed writer of it left."""
    for each in (path.with_name(path.name + ".tmp"), path):
        each.unlink(missing_ok=True)


def pointer_in(path: Path) -> str:
    """What a file is that stands for a larger one, and what to do; '' for any other."""
    with open(path, "rb") as file:
        head = file.read(LONGEST_POINTER)
    found = next((what for begins, what in POINTERS.items() if head.startswith(begins)), "")
    return found if len(head) < LONGEST_POINTER else ""


def refuse_special(path: Path) -> int:
    """The bytes of a file. Raises: NoArtifact for a pipe, a device or a socket, which may never end; OSError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise NoArtifact(f"{path} is a pipe or a device; write what it gives into a file first")
    return found.st_size


def contents(path: Path, most: int = READ) -> bytes:
    """All bytes of a file that strangers may have made. Units: `most` bytes that are read.

    Raises: FormatError where it is larger, or `refuse_special` refuses it; OSError when it cannot be read.
    """
    n_bytes = refuse_special(path)
    if n_bytes > most:
        raise FormatError(f"{path} has {n_bytes:,} bytes, and no more than {most:,} are read")
    with path.open("rb") as file:
        return file.read()


def write_all(fd: int, data: bytes) -> None:
    """Every byte of `data`, however few the system takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync(path: Path) -> None:
    """Returns when the contents of a file, or the names in a directory, are on disk.

    Raises: OSError that names it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(fd)


class Unchanged:
    """What `files` were when this was made: device, number, size and time of change of each."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = {path: _identity(path) for path in files}

    def check(self, *only: Path) -> None:
        """Raises InputChanged when a file, of all or of these, is another one, or gone."""
        for path in only or self.files:
            if _identity(path) != self.files[path]:
                raise InputChanged(
                    f"{path} was replaced, changed or cut while it was read; nothing is made of two versions: "
                    "run the same command again once it stays as it is"
                )


def _identity(path: Path) -> tuple[int, ...] | None:
    """What tells a file from another in its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def with_checksum(text: str, start: int = 0) -> str:
    """A JSON object of at least one key with CRC-32 of itself as last key, in a line or indented. `start`: the CRC-32
    of a line that it is bound to."""
    body = text[:-1].rstrip()
    gap = "\n  " if text[len(body) : -1] else " "
    return f'{body},{gap}"crc32": "{zlib.crc32(text.encode(), start):08x}"{text[len(body) :]}'


def checksum_fits(text: str, start: int = 0) -> bool | None:
    """Whether a JSON object ends in the checksum of the rest of it; None where it ends in no checksum."""
    found = re.fullmatch(r'(.*),(?: |\n  )"crc32": "[0-9a-f]{8}"(\n?})', text, re.DOTALL)
    return None if found is None else text == with_checksum(found[1] + found[2], start)


def checked_json(text: str) -> Any:
    """The value of JSON text, without the checksum that an object may end in. Raises: ValueError, RecursionError."""
    row = json.loads(text)
    if isinstance(row, dict) and row.pop("crc32", None) is not None and not checksum_fits(text.removesuffix("\n")):
        raise ValueError("its checksum is that of another text")
    return row
