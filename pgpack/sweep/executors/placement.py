"""Where the trials of a sweep are measured: here, in worker processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import machine
from .cluster import ClusterExecutor, Portable
from .dispatch import n_batches
from .here import SerialExecutor
from .jobs import Executor, Job, Open, Setting
from .workers import WorkerExecutor


@dataclass(frozen=True)
class Placement:
    """What was asked for. `jobs`: worker processes, None for what the machine allows and the work pays for;
    `scheduler`: a Dask cluster's address or its scheduler file."""

    jobs: int | None = None
    scheduler: str | None = None


@dataclass(frozen=True)
class Work:
    """How much there is to measure: trials, and how many workers could begin at once without doing work twice."""

    n_jobs: int
    n_batches: int

    @staticmethod
    def of(jobs: Sequence[Job]) -> Work:
        return Work(len(jobs), n_batches(jobs))


def n_workers(jobs: int | None, work: Work, n_params: int, n_gpus: int = 0) -> int:
    """Worker processes for `work`; 1 means that this process measures by itself. `n_gpus`: those that they share."""
    if jobs is not None:
        return min(jobs, max(1, work.n_jobs))
    fitting = machine.fitting_workers(4 * n_params, machine.usable_cores(), machine.free_bytes())
    return max(1, min(work.n_batches, n_gpus or fitting, fitting, machine.paying_workers(n_params, work.n_jobs)))


def open_executor(
    placement: Placement,
    blueprint: Portable,
    local: Open,
    work: Work,
    device: str | None,
    note: Callable[[str], None],
) -> Executor:
    """Where trials are measured. `local`: this process's own measurers; `device`: what models run on."""
    if placement.scheduler is not None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it says there, we say in one sentence
        return ClusterExecutor(blueprint, local, placement.scheduler, note)
    visible = gpus(device)
    count = n_workers(placement.jobs, work, local(Setting()).checkpoint.n_params, len(visible))
    if count == 1:
        return SerialExecutor(local)
    threads = max(1, machine.usable_cores() // count)
    note(f"measuring in {count} worker processes of {threads} threads")
    return WorkerExecutor(blueprint, local, count, threads, visible)


def gpus(device: str | None) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls the devices that workers share, one each; none unless it is plain `cuda`."""
    if device != "cuda":
        return ()
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(visible.split(",")) if visible else tuple(str(i) for i in range(torch.cuda.device_count()))
