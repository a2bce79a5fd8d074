"""The flags that say where trials are measured: here, in worker processes of this machine, or on a Dask cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from .group import flag, flag_group

if TYPE_CHECKING:
    from pgpack.sweep.executors.placement import Placement


@dataclass(frozen=True)
class ExecutorFlags:
    """The values of the flags; None where one was not given."""

    jobs: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.scheduler is not None:
            raise click.UsageError("--jobs is for this machine; a cluster has the workers that it has: leave one out")

    def placement(self) -> Placement:
        """What the flags ask for."""
        from pgpack.sweep.executors.placement import Placement

        return Placement(self.jobs, self.scheduler)


executor_options = flag_group(
    ExecutorFlags,
    "workers",
    {
        "jobs": flag(
            "--jobs", type=click.IntRange(1), metavar="N", help="Worker processes [default: what cores allow]."
        ),
        "scheduler": flag(
            "--scheduler", metavar="ADDRESS", help="Measure on a Dask cluster: tcp://HOST:PORT or its scheduler file."
        ),
    },
)
