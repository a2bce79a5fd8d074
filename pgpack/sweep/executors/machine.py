"""What this machine gives a sweep: cores and memory that this process may use, and how many workers fit them."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
WORKER_BYTES = 1_500_000_000  # a worker before its first checkpoint: interpreter, torch, what its cache holds
PAYS = 25_000_000  # parameters times trials: about 20 s of work on one core; a worker needs 10 s to begin
COPIES = 6  # of the fp32 checkpoint that packing, decoding and evaluating hold at once, statistics included


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may run on: its affinity, and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = [*_words(cgroup / "cpu.max"), "", ""][:2]
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def free_bytes(cgroup: Path = CGROUP) -> int | None:
    """Memory that is free now, on the machine and within the container's limit; None where nobody says."""
    lines = _lines(Path("/proc/meminfo"))
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = (_words(cgroup / name) for name in ("memory.max", "memory.current"))
    if limit and used and limit[0].isdigit() and used[0].isdigit():
        found.append(max(0, int(limit[0]) - int(used[0])))
    return min(found, default=None)


def paying_workers(n_params: int, n_jobs: int) -> int:
    """Workers that are busy for longer than they need to begin, at least one."""
    return max(1, n_params * n_jobs // PAYS)


def fitting_workers(checkpoint_bytes: int, n_cores: int, memory_bytes: int | None) -> int:
    """Workers that the machine has cores and memory for, at least one. Units: `checkpoint_bytes` fp32."""
    if memory_bytes is None:
        return max(1, n_cores)
    return max(1, min(n_cores, memory_bytes // (WORKER_BYTES + COPIES * checkpoint_bytes)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
