"""A content-addressed cache: results of pure steps under the digest of everything that they depend on.

    key (sha256 of the inputs) --> memory: large entries go, least recently used first, once a limit is passed
                               --> files:  FOLDER/KIND/ab/cdef...  =  magic | sha256 | padding | contents

Owns where results are kept and for how long; what is in them is `pgpack.cache.entries`. No result depends on it:
an entry whose digest is not its own is deleted and counts as missing, and a folder that is full, forbidden or gone
costs speed and one note. There is no lock: equal names mean equal contents, so two processes that write one entry
write the same, each aside, and rename it. Entries are not flushed to the disk: what a power cut tears is found by
its digest. Nothing in an entry is unpickled or run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from pgpack.errors import FormatError
from pgpack.files import replacing

KINDS = ("calibration", "quantized", "tuned", "encoded", "evaluation")
MEMORY_BYTES = 1 << 29
DISK_BYTES = 4 * 10**9
RESERVE = 256 * 10**6  # bytes that stay free on the disk: a sweep's journal must not find it full of our entries
SMALL = 4096  # bytes; entries below are never put out of memory
ALIGNED = 64
MAGIC = b"pgcache1"
HEAD = 64
FILL_AFTER_EVICTION = 0.9
LEFTOVER_S = 3600.0  # a file written aside for longer belongs to a process that was killed
TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of pgpack; deleting it costs only time.\n"
)

T = TypeVar("T")
Buffer = bytes | memoryview


def cache_key(*parts: object) -> str:
    """sha256 hex of plain values (text, numbers, None, lists of them): equal parts, equal key."""
    return hashlib.sha256(json.dumps(parts, allow_nan=False).encode()).hexdigest()


def source_digest(folder: Path) -> str:
    """sha256 hex over all Python files below `folder`: results of earlier code are not taken for those of today's."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


@lru_cache
def package_code(module: str) -> str:
    """sha256 hex of another package's code, of which `module` is loaded; read once; '' where there is no file."""
    home = sys.modules.get(module.partition(".")[0], sys.modules[module])
    file = getattr(home, "__file__", None) or getattr(sys.modules[module], "__file__", None)
    if file is None:
        return ""
    return source_digest(Path(file).parent) if hasattr(home, "__path__") else cache_key(Path(file).read_text("utf-8"))


@dataclass(frozen=True)
class Form(Generic[T]):
    """How a value is written as bytes and read back; `read` raises ValueError, TypeError, LookupError or FormatError
    on bytes that are no such value."""

    write: Callable[[T], list[Buffer]]
    read: Callable[[memoryview], T]


@dataclass(frozen=True)
class Entry:
    """One file of a cache. Units: `n_bytes` bytes; `used` seconds since 1970, of the last read or write."""

    kind: str
    path: Path
    n_bytes: int
    used: float


@dataclass
class Disk:
    """Entries as files, at most about `limit` bytes of them.

    `engine`: digest of the programs whose results are kept (`source_digest` and versions of libraries); entries of
    another engine are never read and go with time. `reserve`: bytes of the file system that are left free.
    `trouble` is told, once, why nothing more is written; reading goes on.
    """

    folder: Path
    limit: int = DISK_BYTES
    engine: str = ""
    reserve: int = RESERVE
    trouble: Callable[[str], None] = lambda line: None
    _sealed: bool = field(default=False, init=False)
    _held: int | None = field(default=None, init=False)
    _since_scan: int = field(default=0, init=False)

    def get(self, kind: str, key: str) -> memoryview | None:
        """The contents of an entry; None when it is missing or damaged (then it is deleted)."""
        path = self._path(kind, key)
        try:
            data = memoryview(path.read_bytes())
        except OSError:
            return None
        if not _is_intact(data, path):
            self.drop(kind, key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data[HEAD:]

    def put(self, kind: str, key: str, pieces: Sequence[Buffer]) -> None:
        """Keep an entry, if it can be kept; others go to make room for it."""
        n_bytes = HEAD + sum(len(piece) for piece in pieces)
        if self._sealed or n_bytes > self.limit:
            return
        path = self._path(kind, key)
        try:
            self._make_room(n_bytes)
            if shutil.disk_usage(self.folder).free < self.reserve + n_bytes:
                self._seal(f"less than {(self.reserve + n_bytes) / 1e6:,.0f} MB are free there")
                return
            _write_aside(path, [_head(path, pieces), *pieces])
        except FileNotFoundError:  # somebody deletes the folder at this moment
            return
        except OSError as error:
            self._seal(error.strerror or type(error).__name__)
            return
        self._held = (self._held or 0) + n_bytes
        self._since_scan += n_bytes

    def drop(self, kind: str, key: str) -> None:
        with contextlib.suppress(OSError):
            self._path(kind, key).unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """All entries of every engine; files that are not ours are passed over."""
        for path in self._files():
            if not _is_aside(path):
                with contextlib.suppress(OSError):
                    found = path.stat()
                    yield Entry(path.parent.parent.name, path, found.st_size, found.st_mtime)

    def shrink(self, limit: int) -> tuple[int, int]:
        """(entries, bytes) that were deleted, least recently used first, so that at most `limit` bytes stay.

        What killed processes left behind goes too.
        """
        for path in self._files():
            with contextlib.suppress(OSError):
                if _is_aside(path) and time.time() - path.stat().st_mtime > LEFTOVER_S:
                    path.unlink(missing_ok=True)
        entries = sorted(self.entries(), key=lambda entry: (entry.used, entry.path.name))
        held, gone, freed = sum(entry.n_bytes for entry in entries), 0, 0
        for entry in entries:
            if held - freed <= limit:
                break
            with contextlib.suppress(OSError):
                entry.path.unlink(missing_ok=True)
                gone, freed = gone + 1, freed + entry.n_bytes
        self._held, self._since_scan = held - freed, 0
        return gone, freed

    def drop_damaged(self) -> int:
        """How many entries were deleted because their digest is not their own; reads all of them."""
        damaged = 0
        for entry in list(self.entries()):
            with contextlib.suppress(OSError):
                if not _is_intact(memoryview(entry.path.read_bytes()), entry.path):
                    entry.path.unlink(missing_ok=True)
                    damaged += 1
        return damaged

    def _make_room(self, n_bytes: int) -> None:
        """Room for an entry within the limit; what other processes added is counted again now and then."""
        if self._held is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), (self.folder / "CACHEDIR.TAG").open("x") as file:
                file.write(TAG)
        if self._held is None or self._since_scan > self.limit // 16:
            self._held, self._since_scan = sum(entry.n_bytes for entry in self.entries()), 0
        if self._held + n_bytes > self.limit:
            self.shrink(min(int(FILL_AFTER_EVICTION * self.limit), self.limit - n_bytes))

    def _path(self, kind: str, key: str) -> Path:
        name = cache_key(self.engine, kind, key)
        return self.folder / kind / name[:2] / name[2:]

    def _files(self) -> Iterator[Path]:
        for kind in KINDS:
            yield from (self.folder / kind).glob("[0-9a-f][0-9a-f]/*")

    def _seal(self, reason: str) -> None:
        if not self._sealed:
            self._sealed = True
            self.trouble(f"{self.folder}: nothing more is cached there ({reason}); results are not affected")


class Memory:
    """Entries of this process. Large ones go, least recently used first, once they take more than `limit` bytes."""

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self.limit = limit
        self.n_bytes = 0
        self._small: dict[tuple[str, str], memoryview] = {}
        self._large: OrderedDict[tuple[str, str], memoryview] = OrderedDict()

    def get(self, kind: str, key: str) -> memoryview | None:
        """The contents of an entry, None when it is not held."""
        if (kind, key) in self._large:
            self._large.move_to_end((kind, key))
            return self._large[kind, key]
        return self._small.get((kind, key))

    def put(self, kind: str, key: str, pieces: Sequence[Buffer]) -> None:
        """Hold an entry; one larger than the limit is not."""
        n_bytes = sum(len(piece) for piece in pieces)
        if n_bytes > max(self.limit, SMALL):
            return
        self.drop(kind, key)
        data = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self.n_bytes += n_bytes
        if n_bytes <= SMALL:
            self._small[kind, key] = data
            return
        self._large[kind, key] = data
        while self.n_bytes > self.limit and self._large:
            self.n_bytes -= len(self._large.popitem(last=False)[1])

    def drop(self, kind: str, key: str) -> None:
        for held in (self._small, self._large):
            self.n_bytes -= len(held.pop((kind, key), b""))


class Cache:
    """What a process keeps in memory and, with a `disk`, for later processes too.

    `hits` and `misses` count by kind.
    """

    def __init__(self, disk: Disk | None = None, memory: Memory | None = None) -> None:
        self.disk = disk
        self.memory = Memory() if memory is None else memory
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        self._one_thread = threading.Lock()

    def recall(
        self,
        kind: str,
        key: str,
        form: Form[T],
        compute: Callable[[], T],
        *,
        in_memory: bool = True,
        on_disk: bool = True,
    ) -> T:
        """The value kept under `key`, or that of `compute`, which is then kept. Arrays of a kept value are read-only;
        threads may call it at a time.

        `in_memory`, `on_disk`: where this value may be kept.
        """
        disk = self.disk if on_disk else None
        with self._one_thread:
            data = self.memory.get(kind, key)
            found = data is not None
            if data is None and disk is not None:
                data = disk.get(kind, key)
            if data is not None:
                with contextlib.suppress(ValueError, TypeError, LookupError, FormatError):
                    value = form.read(data)
                    if in_memory and not found:
                        self.memory.put(kind, key, [data])
                    self.hits[kind] += 1
                    return value
                self.memory.drop(kind, key)
            self.misses[kind] += 1
        value = compute()
        pieces = form.write(value)
        with self._one_thread:
            if in_memory:
                self.memory.put(kind, key, pieces)
            if disk is not None:
                disk.put(kind, key, pieces)
        return value

    def hold(self, kind: str, key: str, pieces: Sequence[Buffer]) -> None:
        """Keep in memory what was found elsewhere, unless something is held there already."""
        if self.memory.get(kind, key) is None:
            self.memory.put(kind, key, pieces)


def _head(path: Path, pieces: Sequence[Buffer]) -> bytes:
    return (MAGIC + _digest(path, pieces)).ljust(HEAD, b"\0")


def _digest(path: Path, pieces: Sequence[Buffer]) -> bytes:
    """Over the entry's own name too: a file that was moved to another name is damage."""
    digest = hashlib.sha256("/".join(path.parts[-3:]).encode() + b"\0")
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _is_intact(data: memoryview, path: Path) -> bool:
    return len(data) >= HEAD and bytes(data[:HEAD]) == _head(path, [data[HEAD:]])


def _is_aside(path: Path) -> bool:
    return path.name.startswith(".")


def _write_aside(path: Path, pieces: Sequence[Buffer]) -> None:
    """All of `pieces` under `path` or nothing, beside processes that write the same entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own_name = path.with_name(f".{secrets.token_hex(8)}")
    with replacing(path, own_name, durable=False) as aside, aside.open("wb") as file:
        file.writelines(pieces)
