"""What the loop needs to know of what it trains, and of where its batches come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from bmdkit.training.engine import Engine
from bmdkit.training.optimiser import RateSchedule


class Learner(Protocol):
    """What is trained: its networks, their optimisers and schedules by name, and one step.

    `averaged` names the network whose running average is kept. A learner that wants `whole_batches` never gets the
    short last batch of an epoch. `spread` is the standard deviation of the latest prediction in that of its target, or
    None where this says nothing.
    """

    networks: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]
    schedules: Mapping[str, RateSchedule]
    averaged: str
    whole_batches: bool
    spread: Tensor | None

    def step(self, batch: dict[str, Tensor], engine: Engine, rng: torch.Generator) -> dict[str, Tensor]:
        """Change the weights by one batch; gives its losses, each a scalar tensor without gradient."""


class Samples(Protocol):
    """Where batches come from: `take` gives those of the indices, on the device."""

    def __len__(self) -> int:
        """Count the samples."""

    def take(self, indices: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Take the samples of these indices, on the device."""
