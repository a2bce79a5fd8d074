"""The flags that say where trials are measured: here, in worker processes of this machine, or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ..screen.output import note
from ..verbs.blueprint import Blueprint
from .group import flag, flag_group

if TYPE_CHECKING:
    from pgpack.measure import Measurer
    from pgpack.sweep.executors.jobs import Executor, Job, Setting


@dataclass(frozen=True)
class ExecutorFlags:
    """The values of the flags; None where one was not given."""

    jobs: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.scheduler is not None:
            raise click.UsageError("--jobs is for this machine; a cluster has the workers that it has: leave one out")


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


@dataclass(frozen=True)
class Work:
    """How much there is to measure: trials, and how many workers could begin at once without doing work twice."""

    n_jobs: int
    n_batches: int

    @staticmethod
    def of(jobs: Sequence[Job]) -> Work:
        """That of jobs which are known."""
        from pgpack.sweep.executors.dispatch import n_batches

        return Work(len(jobs), n_batches(jobs))


def n_workers(flags: ExecutorFlags, work: Work, n_params: int, n_gpus: int = 0) -> int:
    """Worker processes for `work`; 1 means that this process measures by itself. `n_gpus`: those that they share."""
    from pgpack.sweep.executors.machine import fitting_workers, free_bytes, paying_workers, usable_cores

    if flags.jobs is not None:
        return min(flags.jobs, max(1, work.n_jobs))
    fitting = fitting_workers(4 * n_params, usable_cores(), free_bytes())
    return max(1, min(work.n_batches, n_gpus or fitting, fitting, paying_workers(n_params, work.n_jobs)))


def open_executor(
    flags: ExecutorFlags, blueprint: Blueprint, local: Callable[[Setting], Measurer], work: Work, quiet: bool
) -> Executor:
    """Where trials are measured. `local`: this process's own measurers."""
    from pgpack.sweep.executors.here import SerialExecutor
    from pgpack.sweep.executors.jobs import Setting

    if flags.scheduler is not None:
        import logging

        from pgpack.sweep.executors.cluster import ClusterExecutor

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it says there, we say in one sentence
        return ClusterExecutor(blueprint, local, flags.scheduler, lambda line: note(line, quiet))
    visible = gpus(blueprint.text.device)
    n_params = local(Setting()).checkpoint.n_params
    count = n_workers(flags, work, n_params, len(visible))
    if count == 1:
        return SerialExecutor(local)
    from pgpack.sweep.executors.machine import usable_cores
    from pgpack.sweep.executors.workers import WorkerExecutor

    threads = max(1, usable_cores() // count)
    note(f"measuring in {count} worker processes of {threads} threads", quiet)
    return WorkerExecutor(blueprint, local, count, threads, visible)


def gpus(device: str | None) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls the devices that workers share, one each; none unless it is plain `cuda`."""
    if device != "cuda":
        return ()
    import os

    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(visible.split(",")) if visible else tuple(str(i) for i in range(torch.cuda.device_count()))
