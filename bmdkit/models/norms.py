"""Normalisations of feature maps, and what each of them needs from the way in which a network is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.utils.checkpoint import checkpoint

Norm = Literal["group", "batch"]
"""`group`: GroupNorm, of each sample alone. `batch`: BatchNorm, over the batch of all processes."""


def norm_groups(channels: int, most: int = 32) -> int:
    """Count the groups of a GroupNorm: `most`, halved until it divides the channels.

    >>> [norm_groups(channels) for channels in (78, 156, 312, 624)]
    [2, 4, 8, 16]
    """
    groups = most
    while channels % groups:
        groups //= 2
    return groups


def make_norm(channels: int, norm: Norm = "group") -> nn.Module:
    """Make the norm that stands wherever the source of a network has a batch or instance norm."""
    if norm == "batch":
        return SharedBatchNorm(channels)
    return nn.GroupNorm(norm_groups(channels), channels)


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the whole batch when several processes share it.

    Torch's own SyncBatchNorm works on GPUs alone. Every process gets the same gradients that one process with the whole
    batch would have, since the sums are exchanged in the backward pass too.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        values = x.float()
        count = torch.full((1,), values.numel() / values.shape[1], device=x.device)
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
        sums = cast(Tensor, all_reduce(sums))
        mean, square, count = sums[:-1].chunk(2)[0] / sums[-1], sums[:-1].chunk(2)[1] / sums[-1], sums[-1]
        variance = (square - mean.square()).clamp(min=0.0)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            share = 0.1 if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * count / (count - 1.0), share)
        shape = (1, -1, 1, 1)
        normed = (values - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        return (normed * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


def run_twice(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block and forget its activations; they are computed again in the backward pass.

    The second run leaves the running statistics of batch norms as they are: each batch counts once.
    """
    return cast(
        Tensor,
        checkpoint(block, x, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _untracked(block))),
    )


@contextlib.contextmanager
def _untracked(block: nn.Module) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, SharedBatchNorm)]
    before = [(norm, norm.momentum, cast(Tensor, norm.num_batches_tracked).clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the same tensors are saved as in the first run, and nothing is added
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            cast(Tensor, norm.num_batches_tracked).copy_(count)
