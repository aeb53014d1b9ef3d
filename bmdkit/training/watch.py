"""What a network under training does for the patients that it is tuned with, epoch by epoch, and its best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

Measure = Callable[[nn.Module], Mapping[str, float]]
"""Network -> its figures on the tune patients, by name; that of `LOSS` decides."""

LOSS = "tune_loss"
"""Figure that decides which epoch is the best one: the lower, the better."""


class TuneWatch:
    """Measures the network after every epoch, and remembers the best one.

    Args:
        measure: Gives the figures of a network on the tune patients.

    Attributes:
        best_epoch: Epoch of the lowest loss so far, from 1; 0 before the first.
        best_loss: That loss.
        best_weights: The weights of that epoch; None before the first.
    """

    def __init__(self, measure: Measure) -> None:
        """Begin before the first epoch."""
        self.measure = measure
        self.best_epoch = 0
        self.best_loss = math.inf
        self.best_weights: dict[str, Tensor] | None = None

    def look(self, network: nn.Module, epoch: int) -> dict[str, float]:
        """Measure the network after an epoch; it is left in the mode that it was in.

        Args:
            network: Network whose weights would be kept if the training ended here.
            epoch: Epochs done.

        Returns:
            The figures, by name.
        """
        was_training = network.training
        network.eval()
        figures = dict(self.measure(network))
        network.train(was_training)
        if figures[LOSS] < self.best_loss or self.best_weights is None:
            self.best_epoch, self.best_loss = epoch, figures[LOSS]
            self.best_weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        return figures

    def is_tired(self, epoch: int, patience: int) -> bool:
        """Whether so many epochs were no better than the best one; never with a patience of 0."""
        return bool(patience) and epoch - self.best_epoch >= patience

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on."""
        return {"best_epoch": self.best_epoch, "best_loss": self.best_loss, "best_weights": self.best_weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best_epoch, self.best_loss = state["best_epoch"], state["best_loss"]
        self.best_weights = state["best_weights"]
