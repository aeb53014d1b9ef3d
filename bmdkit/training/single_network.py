"""The learner of a training that has one network and one loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from bmdkit.training.engine import Engine
from bmdkit.training.optimiser import OptimiserConfig, RateSchedule

Batch = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class BatchLoss:
    """What a network makes of a batch.

    Attributes:
        total: The loss to descend.
        logged: The losses to log, by name.
        spread: Standard deviation of what was predicted in that of what was wanted; None where this says nothing.
    """

    total: Tensor
    logged: dict[str, Tensor]
    spread: Tensor | None = None


LossFunction = Callable[[nn.Module, Batch, Engine, torch.Generator], BatchLoss]
"""Network, batch, engine and source of randomness -> the losses of the batch."""


def relative_spread(predicted: Tensor, target: Tensor) -> Tensor | None:
    """Standard deviation of a prediction in that of its target; 0 for a constant, None for one value alone."""
    if target.numel() < 2:
        return None
    return predicted.detach().float().std() / target.detach().float().std().clamp(min=1e-6)


class SingleNetworkLearner:
    """One network, one optimiser; see `Learner`.

    Args:
        name: Name of the network in checkpoints.
        network: What is trained, on its device.
        optimiser: Settings of the optimiser.
        compute_loss: Gives the loss of a batch.
        compiled: Whether torch compiles the forward pass.
        whole_batches: Whether a short last batch is left out.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        optimiser: OptimiserConfig,
        compute_loss: LossFunction,
        *,
        compiled: bool = False,
        whole_batches: bool = False,
    ) -> None:
        """Make the optimiser of the network."""
        self.averaged = name
        self.whole_batches = whole_batches
        self.spread: Tensor | None = None
        self.clip = optimiser.clip
        self.compute_loss = compute_loss
        self.forward = cast(nn.Module, torch.compile(network)) if compiled else network
        made, schedule = optimiser.make(network)
        self.networks: Mapping[str, nn.Module] = {name: network}
        self.optimisers: Mapping[str, torch.optim.Optimizer] = {name: made}
        self.schedules: Mapping[str, RateSchedule] = {name: schedule}

    def step(self, batch: Batch, engine: Engine, rng: torch.Generator) -> dict[str, Tensor]:
        """Change the weights by one batch; gives its losses."""
        loss = self.compute_loss(self.forward, batch, engine, rng)
        self.spread = loss.spread
        engine.descend(loss.total, self.optimisers[self.averaged], clip=self.clip)
        return {name: value.detach() for name, value in loss.logged.items()}
