"""How long and in what manner a network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bmdkit.training.engine import Precision


@dataclass(frozen=True)
class LoopConfig:
    """How long and how a network is trained.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Samples per step.
        epoch_samples: Samples in an epoch, the set being gone through as often as it takes; 0 is the set once. Makes
            the cost of an epoch the same whatever the set.
        precision: Precision of the forward pass; bf16 and fp16 are mixed precision.
        ema: Decay of the running average of the weights that is used in the end; 0 uses the last weights.
        checkpoint_epochs: Epochs between checkpoints; the last epoch always has one.
        checkpoint_steps: Steps between further checkpoints inside an epoch; 0 for none.
        budget_minutes: Stop after the epoch in which this is exceeded, counted over all resumptions.
        compile: Let torch compile the forward pass; worth its minutes of preparation on a GPU alone.
        tensorboard: Write events for TensorBoard too (needs the package of that name).
        keep: Whether the network of the last epoch is kept, or that of the epoch that is best for the tune patients.
        stop_early: Stop after so many epochs without a better one for the tune patients; 0 for never.
        judge: Whether a network that turns out to be no better than the mean of its training patients, of ten held-out
            patients or more, makes the command end with status 3.
    """

    epochs: int = 630
    batch_size: int = 8
    epoch_samples: int = 0
    precision: Precision = "float32"
    ema: float = 0.0
    checkpoint_epochs: int = 5
    checkpoint_steps: int = 0
    budget_minutes: float | None = None
    compile: bool = False
    tensorboard: bool = False
    keep: Literal["last", "best"] = "last"
    stop_early: int = 0
    judge: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("epochs", "batch_size", "checkpoint_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if min(self.epoch_samples, self.checkpoint_steps, self.stop_early) < 0:
            raise ValueError("epoch_samples, checkpoint_steps, stop_early: expected no negative number")
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"ema: expected 0 <= ema < 1, got {self.ema}")

    @property
    def needs_tuning(self) -> bool:
        """Whether a choice is made while the network is trained."""
        return self.keep == "best" or self.stop_early > 0
