"""Several processes, one run: who this one is, and the sums that all of them share.

Every process holds all weights, computes its own micro-batches, adds the gradients of all and takes the same step.
Owns torch.distributed; a single process needs none of it and pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Processes:
    """This process among `size`; rank 0 writes files and speaks."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def add_gradients_(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def total(self, value: float, device: torch.device) -> float:
        """Sum over all processes."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        return float(tensor)

    def agree(self, seconds: float, stop: bool, device: torch.device) -> tuple[float, bool]:
        """(seconds of rank 0, whether any process was asked to stop)."""
        if self.size == 1:
            return seconds, stop
        shared = torch.tensor([seconds if self.leads else 0.0, float(stop)], dtype=torch.float64, device=device)
        dist.all_reduce(shared)
        return float(shared[0]), bool(shared[1] > 0)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def join_processes(device: str) -> tuple[Processes, str]:
    """(this process, its device) under torchrun, or a single process with `device` as given."""
    if not dist.is_torchelastic_launched():
        return Processes(), device
    on_gpu = torch.device(device).type == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank = dist.get_rank()
    if on_gpu:
        device = f"cuda:{rank % torch.cuda.device_count()}"
        torch.cuda.set_device(device)
    return Processes(rank, dist.get_world_size()), device


def leave_processes(processes: Processes) -> None:
    """End what `join_processes` began."""
    if processes.size > 1:
        dist.destroy_process_group()
