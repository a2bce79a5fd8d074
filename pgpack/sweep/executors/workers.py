"""Trials measured by worker processes of this machine: `concurrent.futures`, one process to a pool.

    driver (journal, lock) --jobs--> pool of one process --opens checkpoint and text itself, from their files
                           <--rows--

A pool to each worker, because a process that dies (the system kills what takes too much memory) breaks its pool: here
it costs one trial, which is measured once more by a new worker and then counts as failed, whether the process dies
while it starts or at work. Workers are spawned, never forked; each has its share of the cores for BLAS and OpenMP;
they end with the driver, however that ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from pgpack.errors import PgpackError

from .dispatch import Dispatcher
from .jobs import Job, Measured, Open, Setting
from .remote import Outcomes, Report, end_with, report_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgpack.measure import Measurer

TRIES = 2  # workers that may die on a recipe before it counts as failed
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class WorkerExecutor:
    """`n_workers` processes that measure jobs.

    `open_measurer` is pickled and called in each of them; `local` gives the driver's own measurers, for keys and the
    rows of trials that nobody could measure. `threads`: cores for each worker. `gpus`: what CUDA_VISIBLE_DEVICES
    calls the devices, which workers get one of in turn; none leaves the choice as it is.
    """

    def __init__(
        self,
        open_measurer: Open,
        local: Callable[[Setting], Measurer],
        n_workers: int,
        threads: int = 1,
        gpus: tuple[str, ...] = (),
    ) -> None:
        self.n_workers = n_workers
        self._open, self._local = open_measurer, local
        self._slots: list[_Worker | None] = [None] * n_workers
        self._variables = [_variables(threads, gpus[slot % len(gpus)] if gpus else "") for slot in range(n_workers)]
        self._outcomes = Outcomes(TRIES)
        self._began = False  # one worker at least
        self._n_stillborn = 0

    def run(self, jobs: Iterable[Job]) -> Iterator[Measured]:
        """As `Executor.run`, in order of completion.

        Raises: PgpackError when workers cannot begin, or measure something else than was asked for.
        """
        dispatcher, busy = Dispatcher(jobs), dict[Future[Report], tuple[int, Job]]()
        while True:
            working = {slot for slot, _ in busy.values()}
            for slot in range(len(self._slots)):
                if slot not in working and (job := dispatcher.take(slot)) is not None:
                    worker = self._slots[slot] = self._slots[slot] or _Worker(self._variables[slot])
                    busy[worker.submit(self._open, job)] = slot, job
            if not busy:
                return
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                slot, job = busy.pop(future)
                measured = self._outcome(future, slot, job)
                if measured is None:
                    dispatcher.lost(job)
                    continue
                dispatcher.finished(job)
                yield measured

    def __enter__(self) -> WorkerExecutor:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._slots:
            if worker is not None:
                worker.kill()
        for slot in range(len(self._slots)):
            self._end(slot)

    def _end(self, slot: int) -> None:
        worker, self._slots[slot] = self._slots[slot], None
        if worker is not None:
            worker.end()

    def _outcome(self, future: Future[Report], slot: int, job: Job) -> Measured | None:
        """The row of a finished job; None when its worker died and it is to be tried again."""
        measurer = self._local(job.setting)
        try:
            report = future.result()
        except BrokenProcessPool:
            self._bury(slot)
            if not self._began or self._outcomes.again(job):
                return None
            return self._outcomes.give_up(measurer, job)
        self._began = True
        return self._outcomes.take(measurer, job, report)

    def _bury(self, slot: int) -> None:
        """End a worker that died: the next job of its slot has a new one.

        Raises: PgpackError when workers die before any of them began, which no recipe is to blame for.
        """
        worker = self._slots[slot]
        self._began |= worker is not None and worker.began
        self._end(slot)
        self._n_stillborn += not self._began
        if self._n_stillborn > TRIES * self.n_workers:
            raise PgpackError(
                "worker processes end before they begin; what they said is above, and --jobs 1 measures without them"
            )


class _Worker:
    """One process and the pool that it alone is in. It sees `variables` in its environment."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        driver, self._driver = context.Pipe(duplex=False)
        with _environment(variables), _without_ctrl_c():
            self._pool = ProcessPoolExecutor(1, context, end_with, (driver,))
            self._pid = self._pool.submit(os.getpid)
        driver.close()

    @property
    def began(self) -> bool:
        return self._pid.done() and self._pid.exception() is None

    def submit(self, open_measurer: Open, job: Job) -> Future[Report]:
        try:
            return self._pool.submit(report_on, open_measurer, job)
        except BrokenProcessPool as error:  # it died meanwhile
            lost = Future[Report]()
            lost.set_exception(error)
            return lost

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self._driver.closed:
            return
        self._driver.close()
        if self.began:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid.result(), signal.SIGKILL)

    def end(self) -> None:
        self.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _variables(threads: int, gpu: str) -> dict[str, str]:
    """The environment of a worker: a lower bound of the user's own stays."""
    found = {}
    for name in THREADS:
        given = os.environ.get(name, "")
        found[name] = given if given.isdigit() and 0 < int(given) < threads else str(threads)
    return {**found, "CUDA_VISIBLE_DEVICES": gpu} if gpu else found


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """`variables` are set for what is spawned in the block: libraries read them when they are imported."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """What is spawned in the block never sees Ctrl-C, which a terminal sends to all: stopping is the driver's choice.

    One that comes meanwhile reaches the driver after the block. The resource tracker of multiprocessing is started
    first: where it is not running yet, starting it takes SIGINT out of the mask again (CPython, resource_tracker.py).
    It cleans up after a driver that was stopped at once, and is not to warn of that.
    """
    with _environment({"PYTHONWARNINGS": "ignore:resource_tracker"}):
        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
