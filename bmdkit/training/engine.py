"""Where and how a step is computed: device, precision, gradients."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from torch import Tensor

from bmdkit.core.device import resolve_device
from bmdkit.training.distributed import ProcessGroup

Precision = Literal["float32", "bf16", "fp16"]


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

    def descend(self, loss: Tensor, optimiser: torch.optim.Optimizer, *, clip: float = 0.0) -> None:
        """Make one step of the optimiser down the gradient of a loss.

        Args:
            loss: Scalar.
            optimiser: Optimiser of the weights.
            clip: Largest norm of the gradients of all its weights together; 0 leaves them as they are.
        """
        optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss * self.share).backward()
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.processes.sum_gradients(parameters)
        if clip:
            self.scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(parameters, clip)
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
