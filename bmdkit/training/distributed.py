"""Several processes that train one network together, each on its share of every batch.

Started by `torchrun`; every process reads the whole dataset and keeps the same weights, since all gradients are summed
before each step. The first process writes, the others only compute.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


class ProcessGroup:
    """The processes of one training; by default one alone.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """Describe a group of `size` processes as the one with number `rank` sees it."""
        self.rank, self.size = rank, size

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.rank == 0

    def share(self, batch: Tensor) -> tuple[Tensor, float]:
        """Places in a batch that this process computes, and the weight of its mean in the mean over the batch.

        Every process takes each `size`-th sample; a batch too small for that is computed by all.
        """
        everything = torch.arange(len(batch))
        if len(batch) < self.size:
            return everything, 1.0 / self.size
        own = everything[self.rank :: self.size]
        return own, len(own) / len(batch)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def total(self, value: float, device: torch.device) -> float:
        """Sum of a number over all processes."""
        if self.size == 1:
            return value
        cell = torch.tensor([value], dtype=torch.float64, device=device)
        dist.all_reduce(cell)
        return float(cell)

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            dist.barrier()


def join_processes(device: torch.device) -> tuple[ProcessGroup, torch.device]:
    """Join the group that `torchrun` has started this process in; alone without `torchrun`.

    Args:
        device: Device that the user asked for.

    Returns:
        The group, and the device of this process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ProcessGroup(), device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return ProcessGroup(dist.get_rank(), dist.get_world_size()), device
