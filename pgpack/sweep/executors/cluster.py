"""Trials measured by the workers of a Dask cluster that somebody else started (CLUSTER.md beside this file).

    driver (journal, lock) --jobs--> scheduler --> workers, one trial each at a time
                           <--rows--           <--

Workers may come and go: Dask gives the trial of a lost one to another, and after some losses (its own setting,
`allowed-failures`) it counts as failed. When the scheduler goes, the driver looks for it for a while and then gives
out again what was in flight; a result is taken once, whatever was repeated. Files that workers do not see are sent.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError as OfFutures
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pgpack.errors import PgpackError, RoundTripError, StudyError, ToolMissing, WorkersLost

from .dispatch import Dispatcher
from .jobs import Job, Measured, Open, Setting
from .remote import Outcomes, Report, report_on

if TYPE_CHECKING:
    from distributed import Client, Future

    from pgpack.measure import Measurer

PATIENCE_S = 120.0  # for a scheduler that does not answer
LOOK_S = 1.0  # between looks at who works
CONNECT_S = 10.0  # for one attempt
Busy = dict["Future", tuple[str, Job]]


class Portable(Protocol):
    """An `Open` that also works on a machine that does not see the driver's files."""

    @property
    def files(self) -> Mapping[str, Path]:
        """Everything that it reads: a relative name -> the file."""

    def moved(self, folder: Path) -> Open:
        """The same with `files` below `folder`, under their names."""

    def __call__(self, setting: Setting) -> Measurer: ...


class ClusterExecutor:
    """The workers of the scheduler at `address`, or of the one that a scheduler file names.

    `open_measurer` is pickled and called on workers, `local` gives the driver's own measurers. `note` is told what
    takes long; `workers` are the addresses when last looked at. Units: seconds.
    """

    def __init__(
        self,
        open_measurer: Portable,
        local: Callable[[Setting], Measurer],
        address: str,
        note: Callable[[str], None] = lambda line: None,
        patience_s: float | None = None,
    ) -> None:
        self._open, self._local, self._address = open_measurer, local, address
        self._note = note
        self.patience_s = PATIENCE_S if patience_s is None else patience_s
        self._client: Client | None = None
        self.workers: tuple[str, ...] = ()
        self._looked = 0.0
        self._parcel: str | None = None
        self._news = threading.Event()
        self._outcomes = Outcomes(tries=1)

    @property
    def n_workers(self) -> int:
        """As many as the cluster had when last looked at, at least 1."""
        return max(1, len(self.workers))

    def __enter__(self) -> ClusterExecutor:
        self._connect()
        return self

    def __exit__(self, *exc: object) -> None:
        self._disconnect()

    def run(self, jobs: Iterable[Job]) -> Iterator[Measured]:
        """As `Executor.run`, in order of completion.

        Raises: WorkersLost when the scheduler stays away; PgpackError when workers cannot open what is measured, or
        measure something else.
        """
        dispatcher, busy = Dispatcher(jobs), Busy()
        while True:
            if self._client is None or self._client.status != "running":
                self._take_back(dispatcher, busy)
                self._connect(again=True)
            try:
                idle = self._hand_out(dispatcher, busy)
            except _lost():
                idle = False
            if not busy and idle:
                return
            self._news.wait(LOOK_S)
            self._news.clear()
            for future in [future for future in busy if future.status != "pending"]:
                job = busy.pop(future)[1]
                measured = self._outcome(future, job)
                if measured is None:
                    dispatcher.lost(job)
                    continue
                dispatcher.finished(job)
                yield measured

    def _hand_out(self, dispatcher: Dispatcher, busy: Busy) -> bool:
        """A job to every worker that has none; True when there are workers, all of them idle."""
        working = {address for address, _ in busy.values()}
        workers = self._present(dispatcher)
        for address in workers:
            if address not in working and (job := dispatcher.take(address)) is not None:
                try:
                    future = self._submit(address, job)
                except _lost():
                    dispatcher.lost(job)
                    raise
                busy[future] = address, job
        return bool(workers)

    def look(self) -> tuple[str, ...]:
        """Look who works now; their addresses."""
        assert self._client is not None
        self.workers, self._looked = tuple(self._client.nthreads()), time.monotonic()
        return self.workers

    def _present(self, dispatcher: Dispatcher) -> tuple[str, ...]:
        """The workers' addresses, looked up now and then; batches of those that left are free."""
        if time.monotonic() - self._looked > LOOK_S:
            before = self.workers
            for address in set(before) - set(self.look()):
                dispatcher.gone(address)
            if before and not self.workers:
                self._note("all workers have left the cluster; waiting for others")
        return self.workers

    def _submit(self, address: str, job: Job) -> Future:
        assert self._client is not None
        future: Future = self._client.submit(
            _measure_here,
            self._open,
            job,
            self._parcel,
            key=f"pgpack-{secrets.token_hex(8)}",
            workers=[address],
            allow_other_workers=True,
            pure=False,
        )
        future.add_done_callback(lambda _: self._news.set())
        return future

    def _outcome(self, future: Future, job: Job) -> Measured | None:
        """The row of a job; None when it must be given out again."""
        from distributed import KilledWorker

        measurer = self._local(job.setting)
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                return self._outcomes.give_up(measurer, job)
            if isinstance(error, PgpackError):
                raise error
            raise PgpackError(f"a worker of {self._address} cannot measure: {type(error).__name__}: {error}")
        if future.status != "finished":
            return None
        try:
            report: Report = future.result(timeout=CONNECT_S)
        except _lost():
            return None
        return self._outcomes.take(measurer, job, report)

    def _take_back(self, dispatcher: Dispatcher, busy: Busy) -> None:
        """What was in flight when the scheduler went must be given out again."""
        for _, job in busy.values():
            dispatcher.lost(job)
        for address in self.workers:
            dispatcher.gone(address)
        busy.clear()
        self.workers = ()

    def _connect(self, again: bool = False) -> None:
        """Find the scheduler, while patience lasts, and see to the files. Raises: WorkersLost, ToolMissing."""
        self._disconnect()
        if again:
            self._note(f"the scheduler at {self._address} does not answer; looking for it")
        until = time.monotonic() + self.patience_s
        while True:
            try:
                self._client = client = _client(self._address, max(1.0, min(CONNECT_S, self.patience_s)))
                self._parcel = self._send_files(client)
                return
            except _lost() as error:
                self._disconnect()
                if time.monotonic() > until:
                    raise WorkersLost(
                        f"the scheduler at {self._address} did not answer for {self.patience_s:.0f} s "
                        f"({type(error).__name__}); all rows are kept: repeat the same command once it is back"
                    ) from None
            time.sleep(0.5)

    def _send_files(self, client: Client) -> str | None:
        """The parcel's name, once every worker will have it; None where the workers see the files themselves."""
        files = self._open.files
        sizes = {str(path): path.stat().st_size for path in files.values()}
        if not client.nthreads():
            self._note(f"no workers at {self._address} yet; waiting for the first")
        while not client.nthreads():
            time.sleep(0.2)
        from .parcel import Parcel, sees

        if all(client.run(sees, sizes).values()):
            return None
        parcel = Parcel(files)
        self._note(f"sending {sum(sizes.values()) / 1e6:,.0f} MB of files to the workers, which do not see them")
        client.register_plugin(parcel)
        return parcel.name

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._looked = 0.0
        if client is None:
            return
        with contextlib.suppress(*_lost()):
            if self._parcel is not None and client.status == "running":
                client.unregister_worker_plugin(self._parcel)
        with contextlib.suppress(*_lost()):
            client.close(timeout=2)


def _client(address: str, timeout_s: float) -> Client:
    """A connection to the scheduler. Raises: OSError, TimeoutError or ValueError when there is none; ToolMissing."""
    try:
        from distributed import Client
    except ImportError:
        raise ToolMissing(
            "--scheduler needs Dask, which is not installed: pip install 'pgpack[cluster]', or leave it out to "
            "measure on this machine"
        ) from None
    if "://" in address:
        return Client(address, timeout=timeout_s, set_as_default=False)
    if not Path(address).is_file():
        raise FileNotFoundError(address)
    return Client(scheduler_file=address, timeout=timeout_s, set_as_default=False)


def _lost() -> tuple[type[BaseException], ...]:
    """What calls raise when the scheduler or a worker is gone; `CommClosedError` is an OSError."""
    try:
        from distributed.client import FutureCancelledError
    except ImportError:
        return OSError, TimeoutError, OfFutures
    return OSError, TimeoutError, ValueError, OfFutures, FutureCancelledError


def _measure_here(open_measurer: Portable, job: Job, parcel: str | None) -> Report:
    """On a worker: the report on `job`, with the worker's name in what goes wrong before it is measured."""
    from distributed import get_worker

    from .parcel import folder_on

    worker: Any = get_worker()
    try:
        return report_on(open_measurer if parcel is None else open_measurer.moved(folder_on(worker, parcel)), job)
    except RoundTripError:
        raise
    except (PgpackError, OSError) as error:
        raise StudyError(f"worker {worker.name} at {worker.address}: {error}") from None
