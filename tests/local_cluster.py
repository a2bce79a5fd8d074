"""A Dask cluster of this machine for tests: scheduler and workers as processes of their own, to be killed at will."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class LocalCluster:
    """A context manager; everything that it started ends with it. `folder`: logs and the workers' own files."""

    def __init__(self, folder: Path, n_workers: int = 2) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._n_workers = n_workers

    def __enter__(self) -> LocalCluster:
        self.start_scheduler()
        for _ in range(self._n_workers):
            self.start_worker()
        return self

    def __exit__(self, *exc: object) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        with warnings.catch_warnings():  # sockets to what was killed are left to the collector: not to a later test's
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def start_scheduler(self) -> None:
        flags = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-show")
        self.scheduler = self._start("dask_scheduler", *flags)

    def start_worker(self, nanny: bool = False, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """One process, alone or with a nanny that starts it again; `within`: a command that runs it."""
        flags = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder / "local"))
        worker = self._start("dask_worker", self.address, "--nanny" if nanny else "--no-nanny", *flags, within=within)
        self.workers.append(worker)
        return worker

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def wait_until_scheduler_listens(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError("the scheduler does not begin")

    def _start(self, program: str, *flags: str, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
            "OMP_NUM_THREADS": "1",
        }
        with (self.folder / "log").open("ab") as log:
            command = [*within, sys.executable, "-m", f"distributed.cli.{program}", *flags]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
