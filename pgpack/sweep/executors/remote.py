"""The part of an executor that runs in another process: open what a job is measured on once, measure, report.

Nothing travels but jobs (recipes) and rows (numbers and digests): checkpoint, text and statistics are read by the
worker itself. What it measured is compared with what was asked for by the digests in the row's key.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgpack.errors import PgpackError, StudyError
from pgpack.study.trial import Trial

from .jobs import Job, Measured, Open, Setting, failed, job_key, measure

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from pgpack.measure import Measurer

HOPELESS = 3  # recipes that killed their workers before any was measured: then it is not the recipes
MEASURERS = 4  # opened ones that a worker holds; a study with more checkpoints opens them again


@dataclass(frozen=True, eq=False)
class Report:
    """A worker's answer: the row, what its cache had and lacked for it, who it was, for messages, and the bytes of
    the artifact's tensors."""

    trial: Trial
    hits: Counter[str]
    misses: Counter[str]
    worker: str
    tensors: Mapping[str, int] = field(default_factory=dict)


@functools.lru_cache(maxsize=MEASURERS)
def _opened(open_measurer: Open, setting: Setting) -> Measurer:
    return open_measurer(setting)


def report_on(open_measurer: Open, job: Job) -> Report:
    """Measure `job` in this process. Raises: PgpackError when what it is measured on cannot be opened here."""
    measurer = _opened(open_measurer, job.setting)
    cache = measurer.cache
    hits, misses = Counter(cache.hits), Counter(cache.misses)
    measured = measure(measurer, job)
    name = f"process {os.getpid()} on {socket.gethostname()}"
    return Report(measured.trial, cache.hits - hits, cache.misses - misses, name, measured.tensors)


class Outcomes:
    """What comes back from workers: rows that were asked for, and of workers that died whose fault that is.

    In all of it `measurer` is the driver's own.
    """

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self._died: Counter[Job] = Counter()
        self._n_measured = self._n_given_up = 0

    def take(self, measurer: Measurer, job: Job, report: Report) -> Measured:
        """The row of a report. Raises: StudyError when it is not what was asked for."""
        check(measurer, job, report)
        self._n_measured += 1
        measurer.cache.hits += report.hits
        measurer.cache.misses += report.misses
        return Measured(job, report.trial, report.tensors)

    def again(self, job: Job) -> bool:
        """Count a death; True when the job is to be tried once more."""
        self._died[job] += 1
        return self._died[job] < self._tries

    def give_up(self, measurer: Measurer, job: Job) -> Measured:
        """The row of a job that nobody could measure.

        Raises: PgpackError when workers die whatever they are given.
        """
        self._n_given_up += 1
        if self._n_given_up >= HOPELESS and not self._n_measured:
            raise PgpackError(
                f"workers died on each of the first {self._n_given_up} recipes, most likely killed for want of "
                "memory; use fewer of them (--jobs) or machines with more memory, and repeat with --retry-failed"
            )
        died = (
            "the workers that measured this recipe died, most likely killed for want of memory; use fewer of them "
            "(--jobs) or machines with more memory, and repeat with --retry-failed"
        )
        return Measured(job, failed(measurer, job, died))


def check(measurer: Measurer, job: Job, report: Report) -> None:
    """Raises: StudyError naming what differs on the worker, for a row that is not what was asked for."""
    trial = report.trial
    if trial.key == job_key(measurer, job):
        return
    expected = {
        "checkpoint": (measurer.checkpoint.digest, trial.checkpoint_digest),
        "evaluated text or way of evaluating": (measurer.digest, trial.evaluator_digest),
    }
    different = [what for what, (asked, found) in expected.items() if asked != found]
    what = " and the ".join(different) or "calibration or the version of pgpack"
    raise StudyError(
        f"{report.worker} measures something else: the {what} there differs from the one here; "
        "give all workers the same files and the same pgpack"
    )


def end_with(driver: Connection) -> None:
    """End this process as soon as the other end of `driver` is closed, by the driver's will or by its death."""

    def wait() -> None:
        driver.poll(None)
        os._exit(1)

    threading.Thread(target=wait, name="end with the driver", daemon=True).start()
