"""The optimiser of a network, and its learning rate from the first step to the last."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW under a learning rate that falls along cosines.

    Attributes:
        lr: Largest learning rate.
        weight_decay: Weight decay of AdamW.
        betas: Decay rates of the moments of AdamW.
        schedule: `restarts` begins anew at the end of every cycle and changes the rate once an epoch; `one_cycle` falls
            once, step by step, and ends with the last epoch.
        first_cycle_epochs: Epochs to the first restart; every cycle is `cycle_factor` times as long as the last, so
            that restarts end at 10, 30, 70, 150, 310 and 630.
        cycle_factor: Length of a cycle in lengths of the one before.
        lowest_lr: Learning rate at the end of a cycle.
        warmup_steps: Steps in which the rate rises to its value in the schedule; 0 for none. Without them the last
            layer of a small network can turn dark everywhere in its first steps, and stay so.
        clip: Largest norm of the gradients of one step; longer ones are shortened to it. 0 leaves all as they are.
    """

    lr: float = 6e-5
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: Literal["restarts", "one_cycle"] = "restarts"
    first_cycle_epochs: int = 10
    cycle_factor: int = 2
    lowest_lr: float = 1e-7
    warmup_steps: int = 0
    clip: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.lr > 0:
            raise ValueError(f"lr: expected a positive number, got {self.lr}")
        if self.first_cycle_epochs < 1 or self.cycle_factor < 1:
            raise ValueError("first_cycle_epochs, cycle_factor: expected at least 1")
        for name in ("warmup_steps", "clip", "lowest_lr"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected no negative number, got {getattr(self, name)}")

    def make(self, network: nn.Module) -> tuple[torch.optim.Optimizer, RateSchedule]:
        """Make an optimiser of the network's weights and its schedule."""
        optimiser = torch.optim.AdamW(
            [p for p in network.parameters() if p.requires_grad],
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=True,
        )
        return optimiser, RateSchedule(optimiser, self)


class RateSchedule:
    """The learning rate of one optimiser; it can be stopped and taken up again at every step.

    Args:
        optimiser: Optimiser whose rate is set.
        config: Settings of the rate.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, config: OptimiserConfig) -> None:
        """Begin before the first step."""
        self.optimiser, self.config = optimiser, config
        self.restarts = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            optimiser, config.first_cycle_epochs, config.cycle_factor, config.lowest_lr
        )

    def set_rate(self, step: int, steps: int) -> None:
        """Set the rate of a step.

        Args:
            step: Steps done before it.
            steps: Steps of the whole training.
        """
        config = self.config
        if config.schedule == "one_cycle":
            rate = self._one_cycle(step, steps)
        elif step < config.warmup_steps:
            rate = float(self.restarts.get_last_lr()[0]) * (step + 1) / config.warmup_steps
        else:
            return
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _one_cycle(self, step: int, steps: int) -> float:
        config = self.config
        if step < config.warmup_steps:
            return config.lr * (step + 1) / config.warmup_steps
        done = min((step - config.warmup_steps) / max(steps - config.warmup_steps, 1), 1.0)
        return config.lowest_lr + 0.5 * (config.lr - config.lowest_lr) * (1.0 + math.cos(math.pi * done))

    def end_epoch(self) -> None:
        """Go on to the next epoch."""
        if self.config.schedule == "restarts":
            self.restarts.step()

    def cycle_end(self, epochs: int) -> int:
        """The first end of a cycle that is not before this many epochs."""
        if self.config.schedule == "one_cycle":
            return epochs
        end, length = 0, self.config.first_cycle_epochs
        while end < epochs:
            end, length = end + length, length * self.config.cycle_factor
        return end

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on."""
        return self.restarts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.restarts.load_state_dict(state)
