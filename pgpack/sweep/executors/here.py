"""The executor of this process; `workers` has local worker processes, `cluster` a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .jobs import Job, Measured, Open, Setting, measure

if TYPE_CHECKING:
    from pgpack.measure import Measurer


class SerialExecutor:
    """Measures one job after the other in this process, in their order."""

    n_workers = 1

    def __init__(self, open_measurer: Open) -> None:
        self._open = open_measurer
        self._measurers: dict[Setting, Measurer] = {}

    def run(self, jobs: Iterable[Job]) -> Iterator[Measured]:
        """As `Executor.run`; the next job is drawn once the outcome of the one before was taken."""
        for job in jobs:
            yield measure(self.measurer(job.setting), job)

    def measurer(self, setting: Setting) -> Measurer:
        if setting not in self._measurers:
            self._measurers[setting] = self._open(setting)
        return self._measurers[setting]

    def __enter__(self) -> SerialExecutor:
        return self

    def __exit__(self, *exc: object) -> None:
        self._measurers.clear()
