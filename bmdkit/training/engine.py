"""Where and how a step is computed: device, precision, optimiser and learning rate."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bmdkit.core.device import resolve_device
from bmdkit.training.distributed import ProcessGroup

Precision = Literal["float32", "bf16", "fp16"]


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW under cosine warm restarts, stepped every epoch.

    Attributes:
        lr: Learning rate at every restart.
        weight_decay: Weight decay of AdamW.
        betas: Decay rates of the moments of AdamW.
        first_cycle_epochs: Epochs to the first restart; every cycle is `cycle_factor` times as long as the last, so
            that restarts end at 10, 30, 70, 150, 310 and 630.
        cycle_factor: See above.
        lowest_lr: Learning rate at the end of a cycle.
    """

    lr: float = 6e-5
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.5, 0.999)
    first_cycle_epochs: int = 10
    cycle_factor: int = 2
    lowest_lr: float = 1e-7

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.lr > 0:
            raise ValueError(f"lr: expected a positive number, got {self.lr}")
        if self.first_cycle_epochs < 1 or self.cycle_factor < 1:
            raise ValueError("first_cycle_epochs, cycle_factor: expected at least 1")

    def make(self, network: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """An optimiser of the network's weights and its schedule."""
        optimiser = torch.optim.AdamW(
            [p for p in network.parameters() if p.requires_grad],
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            optimiser, self.first_cycle_epochs, self.cycle_factor, self.lowest_lr
        )
        return optimiser, schedule


class Engine:
    """A device and a precision.

    Args:
        device: Device of the networks.
        precision: Precision of the forward pass; bf16 and fp16 are mixed precision.
        processes: The processes that train together.

    Attributes:
        share: Weight of this process's losses in those of the whole batch.
    """

    def __init__(
        self, device: torch.device, precision: Precision = "float32", processes: ProcessGroup | None = None
    ) -> None:
        """Make the scaler that half precision needs."""
        self.device, self.precision, self.processes = device, precision, processes or ProcessGroup()
        self.share = 1.0
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager:
        """The forward pass belongs inside."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def descend(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """One step of the optimiser down the gradient of `loss`."""
        optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss * self.share).backward()
        self.processes.sum_gradients(p for group in optimiser.param_groups for p in group["params"])
        self.scaler.step(optimiser)
        self.scaler.update()


def choose_device(name: str) -> torch.device:
    """Return the PyTorch device of a name, see `core.device.resolve_device`.

    Args:
        name: auto, cpu or cuda[:N].

    Raises:
        PreflightError: The device is not there (BMD-TRN-010).
    """
    return torch.device(resolve_device(name))
