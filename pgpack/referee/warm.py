"""An interpreter that is started once and forks one fenced process per request, each of which begins at once.

Starting Python and loading numpy and our decoder takes longer than most of what the fence is asked to do. The
interpreter itself (`fence.requests`) never touches anything foreign.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

FENCE = Path(__file__).with_name("fence.py")
ENVIRONMENT = {
    "PATH": os.defpath, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RANK": "0",
    "LOCAL_RANK": "0", "WORLD_SIZE": "1",
}  # fmt: skip


class Warm:
    """One interpreter with `modules` loaded. It ends with this object, or with the process that holds it."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.lock = threading.Lock()
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(FENCE), str(theirs.fileno()), *modules], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )  # fmt: skip
        self.end = weakref.finalize(self, _end, self.socket, self.process)

    def run(self, files: Sequence[IO[Any]], timeout_s: float) -> int | None:
        """Exit status of a process of its own, None where it did not end in time and was killed.

        `files`: its request, its report and its stderr. Raises OSError when the interpreter is gone.
        """
        with self.lock:
            self.socket.settimeout(None)
            socket.send_fds(self.socket, [b"r"], [file.fileno() for file in files])
            pid = self._number()
            try:
                self.socket.settimeout(timeout_s)
                return os.waitstatus_to_exitcode(self._number())
            except TimeoutError:
                self._kill(pid)
                return None
            except KeyboardInterrupt:
                self._kill(pid)
                raise

    def _number(self) -> int:
        data = self.socket.recv(4, socket.MSG_WAITALL)
        if len(data) < 4:
            raise ConnectionError("the interpreter that runs fenced processes has ended")
        return int.from_bytes(data, "little")

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # its own session: programs that it started end with it
        self.socket.settimeout(None)
        self._number()


def _end(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    process.wait()


def run(modules: tuple[str, ...], number: int, files: Sequence[IO[Any]], timeout_s: float) -> int | None:
    """`Warm.run` of that interpreter, which is started anew where it was killed."""
    try:
        return interpreter(modules, number).run(files, timeout_s)
    except OSError:
        _started.cache_clear()
        return interpreter(modules, number).run(files, timeout_s)


def interpreter(modules: tuple[str, ...], number: int) -> Warm:
    """The interpreter of that number with these modules, of this process alone: one forked off it has its own."""
    return _started(os.getpid(), modules, number)


@functools.cache
def _started(pid: int, modules: tuple[str, ...], number: int) -> Warm:
    return Warm(modules)
