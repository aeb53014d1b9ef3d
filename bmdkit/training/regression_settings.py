"""All settings of a regression training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bmdkit.dataset.samples import Fold
from bmdkit.models.generators import GeneratorConfig
from bmdkit.models.regression_head import HeadConfig, Weighting
from bmdkit.training.augment import AugmentConfig
from bmdkit.training.bone_density import Task
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.optimiser import OptimiserConfig
from bmdkit.training.settings import check_image_size, check_tuning


@dataclass(frozen=True)
class RegressionConfig:
    """Training of a regression.

    Attributes:
        network: `representation` puts a transformer on a decomposition run's encoder; `baseline` is a convolutional
            network on the region of interest, which the true projection of the proximal femur gives.
        task: dxa or qct; each is a training of its own.
        fold, tune_share, train_patients, train_poses, image_size, verdicts, half_in_memory: As in a decomposition
            training.
        generator: Architecture of the encoder; of the baseline only its `norm` and `standardise`.
        head: The transformer, or in its place a ridge regression on what the whole decomposition network sees, whose
            strength the tune patients choose; of such a run all settings of networks and their training mean nothing.
        filters: First channels of the baseline.
        roi_margin: Added around the region of interest on each side, as a fraction of its size.
        weighting: Whether common or rare BMD counts more.
        augment, optimiser, loop: See there. `loop.epochs` is the length of the first phase: with the encoder frozen,
            or all there is for the baseline and without a run to start from.
        tuned_epochs, tuned_lr: Length and learning rate of the second phase, in which the encoder is trained too; 0
            epochs leave it out.
    """

    network: Literal["representation", "baseline"] = "representation"
    task: Task = "dxa"
    fold: Fold = 0
    tune_share: float = 0.0
    train_patients: int = 0
    train_poses: tuple[str, ...] = ()
    image_size: tuple[int, int] = (512, 256)
    verdicts: tuple[str, ...] = ("accept", "review")
    half_in_memory: bool = False
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    filters: int = 64
    roi_margin: float = 0.1
    weighting: Weighting = "common"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=310))
    tuned_epochs: int = 70
    tuned_lr: float = 8e-6

    def __post_init__(self) -> None:
        """Check the values."""
        check_image_size(self.image_size, self.generator)
        check_tuning(self.tune_share, self.loop, self.train_patients)
        if self.uses_ridge and not self.tune_share:
            raise ValueError("head.kind: ridge needs a tune_share to choose its strength with, got 0")
        if self.filters < 4 or self.filters % 4:
            raise ValueError(f"filters: expected a positive multiple of 4, got {self.filters}")
        if self.roi_margin < 0 or self.tuned_epochs < 0 or not self.tuned_lr > 0:
            raise ValueError("roi_margin, tuned_epochs, tuned_lr: expected 0 or more, and a positive rate")

    @property
    def uses_ridge(self) -> bool:
        """Whether a ridge regression takes the place of the transformer."""
        return self.network == "representation" and self.head.kind == "ridge"
