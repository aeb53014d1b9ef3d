"""All settings of a segmentation training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bmdkit.dataset.samples import Fold
from bmdkit.models.bayesian_unet import UNetConfig
from bmdkit.segmentation.settings import PredictConfig
from bmdkit.training.augment import AugmentConfig
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.optimiser import OptimiserConfig
from bmdkit.training.settings import check_tuning


@dataclass(frozen=True)
class SegmentationTrainingConfig:
    """Training of a segmentation network.

    Attributes:
        fold: Held out for the figures at the end; "all" trains on every patient and holds nobody out.
        pixel_mm: Size of the pixels that a slice is brought to; None: as it is.
        window_hu: HU that become 0 and 1.
        network: Width and dropout.
        loss: Softmax cross-entropy, soft Dice, or the sum of both.
        augment: Random changes of slices and labels; brightness and contrast of the slices alone.
        noise: Largest standard deviation of noise added to the slices, in units of the window; every slice has its own.
        warp: Standard deviation of a smooth random deformation of slices and labels, as a share of the sides.
        optimiser, loop: See there.
        predict: Settings by which the held-out CTs are segmented.
    """

    fold: Fold = 0
    pixel_mm: float | None = None
    window_hu: tuple[float, float] = (-150.0, 350.0)
    network: UNetConfig = field(default_factory=UNetConfig)
    loss: Literal["cross_entropy", "dice", "both"] = "cross_entropy"
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(
            rotation_deg=15.0, shear_deg=5.0, shift=0.1, scale=0.25, flip_vertical=0.0, brightness=0.1, contrast=0.2
        )
    )
    noise: float = 0.04
    warp: float = 0.0
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(lr=1e-4, weight_decay=1e-5, betas=(0.9, 0.999))
    )
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=70, batch_size=4))
    predict: PredictConfig = field(default_factory=PredictConfig)

    def __post_init__(self) -> None:
        """Check the values."""
        check_tuning(0.0, self.loop)
        if self.pixel_mm is not None and not self.pixel_mm > 0:
            raise ValueError(f"pixel_mm: expected a positive number, got {self.pixel_mm}")
        if self.augment.collimation:
            raise ValueError(f"augment.collimation: expected 0, since a CT has none, got {self.augment.collimation}")
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"window_hu: expected two values that rise, got {self.window_hu}")
        for name in ("noise", "warp"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected no negative number, got {getattr(self, name)}")
