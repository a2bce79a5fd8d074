"""A layer between a program and its files: counts what it does to one folder, and at a chosen deed lets it die, fills
the disk, or replaces a file that it reads.

    open, write, fsync, rename, unlink, mkdir, truncate --counted, n-th: fault--> the system

No sleeps: the n-th deed of a run is the n-th of every run of the same command. A write that is struck has happened by
half. From the n-th deed on, a full disk takes nothing more; what is removed makes no room. What C code writes by
itself (numpy's tofile) is not seen; nothing of pgpack writes so.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAKES_ROOM = ("create", "write", "mkdir")
COUNTED = (*TAKES_ROOM, "fsync", "rename", "remove", "truncate")


@dataclass
class Layer:
    """`fault`: '', 'kill', 'full' or 'swap'; `at`: before which deed, from 0. A swap calls `swap` before the at-th
    reading deed on `watched`."""

    root: str
    fault: str = ""
    at: int = -1
    watched: str = ""
    swap: Callable[[], None] = lambda: None
    deeds: list[str] = field(default_factory=list)
    n_reads: int = 0

    def strikes(self, deed: str, path: Any) -> bool:
        """Count a deed on `path`; True where it is struck. Raises: OSError of a full disk, but for a write."""
        name = os.path.abspath(os.fsdecode(path))
        if not name.startswith(self.root):
            return False
        if self.fault == "full" and deed not in TAKES_ROOM:
            return False
        self.deeds.append(deed)
        number = len(self.deeds) - 1
        if self.fault == "kill" and number == self.at:
            if deed != "write":
                os.kill(os.getpid(), signal.SIGKILL)
            return True
        if self.fault == "full" and number >= self.at:
            if deed != "write":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))
            return True
        return False

    def reads(self, path: Any) -> None:
        """Count a reading deed."""
        if not self.watched or not isinstance(path, str | bytes | os.PathLike):
            return
        if os.path.abspath(os.fsdecode(path)) == self.watched:
            self.n_reads += 1
            if self.n_reads == self.at + 1 and self.fault == "swap":
                self.swap()

    def struck_write(self, write: Callable[[Any], int], data: Any) -> int:
        """Half of a write, then the fault."""
        view = memoryview(data).cast("B")
        first = self.at == len(self.deeds) - 1
        if first and len(view) > 1:
            write(view[: len(view) // 2])
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def install(self) -> None:
        """From now on all of this process passes through the layer; there is no way back but to end it."""
        self._install_descriptors()
        self._install_names()
        self._install_files()

    def _install_descriptors(self) -> None:
        real_write, real_fsync, real_truncate, real_open = os.write, os.fsync, os.ftruncate, os.open

        def write(fd: int, data: Any) -> int:
            struck = self.strikes("write", _path(fd))
            return self.struck_write(lambda part: real_write(fd, part), data) if struck else real_write(fd, data)

        def fsync(fd: int) -> None:
            self.strikes("fsync", _path(fd))
            real_fsync(fd)

        def ftruncate(fd: int, length: int) -> None:
            self.strikes("truncate", _path(fd))
            real_truncate(fd, length)

        def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if flags & (os.O_CREAT | os.O_TRUNC):
                self.strikes("create", _joined(path, dir_fd))
            else:
                self.reads(path)
            return real_open(path, flags, mode, dir_fd=dir_fd)

        os.write, os.fsync, os.ftruncate, os.open = write, fsync, ftruncate, open_  # type: ignore[assignment]

    def _install_names(self) -> None:
        def counted(name: str, deed: str) -> None:
            real = getattr(os, name)

            def deed_on(path: Any, *others: Any, dir_fd: int | None = None, **options: Any) -> Any:
                self.strikes(deed, _joined(path, dir_fd))
                known = options if dir_fd is None else {"dir_fd": dir_fd, **options}
                return real(path, *others, **known)

            setattr(os, name, deed_on)

        for name, deed in (("replace", "rename"), ("rename", "rename"), ("unlink", "remove"), ("remove", "remove"),
                           ("rmdir", "remove"), ("mkdir", "mkdir")):  # fmt: skip
            counted(name, deed)
        real_stat = os.stat

        def stat(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
            self.reads(path)
            return real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

        os.stat = stat
        from pgpack import files

        exchange = files._exchange

        def exchanged(aside: Path, path: Path) -> None:  # by renameat2, which is not one of os
            self.strikes("rename", aside)
            exchange(aside, path)

        files._exchange = exchanged

    def _install_files(self) -> None:
        layer, real = self, io.open

        class Counted(io.FileIO):
            def write(self, data: Any) -> int:
                struck = layer.strikes("write", self.name)
                return layer.struck_write(super().write, data) if struck else super().write(data)

        def open_(file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
                  errors: str | None = None, newline: str | None = None, closefd: bool = True,
                  opener: Any = None) -> Any:  # fmt: skip
            writes = set(mode) & set("wxa+")
            if isinstance(file, int) or not writes:
                layer.reads(file)
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            if not os.path.abspath(os.fsdecode(file)).startswith(layer.root):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            layer.strikes("create", file)
            raw = Counted(os.fsdecode(file), mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            buffer: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

        io.open = builtins.open = open_
        import numpy
        import safetensors

        for owner, name in ((numpy, "fromfile"), (safetensors, "safe_open")):
            reading = getattr(owner, name)

            def read(file: Any, *others: Any, reading: Any = reading, **options: Any) -> Any:
                layer.reads(getattr(file, "name", file))
                return reading(file, *others, **options)

            setattr(owner, name, read)


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _joined(path: Any, dir_fd: int | None) -> str:
    return os.fsdecode(path) if dir_fd is None else os.path.join(_path(dir_fd), os.fsdecode(path))
