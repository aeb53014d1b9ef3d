"""The learner of a training that has one network and one loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from bmdkit.training.engine import Engine, OptimiserConfig

Batch = dict[str, Tensor]
LossFunction = Callable[[nn.Module, Batch, Engine, torch.Generator], tuple[Tensor, dict[str, Tensor]]]
"""Network, batch, engine and source of randomness -> the loss to descend, and the losses to log."""


class SingleNetworkLearner:
    """One network, one optimiser; see `Learner`.

    Args:
        name: Name of the network in checkpoints.
        network: What is trained, on its device.
        optimiser: Settings of the optimiser.
        compute_loss: Gives the loss of a batch.
        compiled: Whether torch compiles the forward pass.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        optimiser: OptimiserConfig,
        compute_loss: LossFunction,
        *,
        compiled: bool = False,
    ) -> None:
        """Make the optimiser of the network."""
        self.averaged = name
        self.compute_loss = compute_loss
        self.forward = cast(nn.Module, torch.compile(network)) if compiled else network
        made, schedule = optimiser.make(network)
        self.networks: Mapping[str, nn.Module] = {name: network}
        self.optimisers: Mapping[str, torch.optim.Optimizer] = {name: made}
        self.schedules: Mapping[str, torch.optim.lr_scheduler.LRScheduler] = {name: schedule}

    def step(self, batch: Batch, engine: Engine, rng: torch.Generator) -> dict[str, Tensor]:
        """Change the weights by one batch; gives its losses."""
        loss, logged = self.compute_loss(self.forward, batch, engine, rng)
        engine.descend(loss, self.optimisers[self.averaged])
        return {name: value.detach() for name, value in logged.items()}
