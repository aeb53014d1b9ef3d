"""All settings of a decomposition training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bmdkit.dataset.samples import DatasetName, Fold
from bmdkit.models.discriminator import DiscriminatorConfig
from bmdkit.models.generators import GeneratorConfig
from bmdkit.models.losses import Adversarial
from bmdkit.training.augment import AugmentConfig
from bmdkit.training.bone_density import BmdConfig
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.optimiser import OptimiserConfig
from bmdkit.training.reexposure import ReexposureConfig


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses of the generator.

    Attributes:
        l1, gradient_correlation, feature_matching, adversarial: Weights; 0 leaves one out. With neither of the last
            two there is no discriminator.
        form: Form of the adversarial loss: least squares, or the logarithms of the paper.
    """

    l1: float = 100.0
    gradient_correlation: float = 1.0
    feature_matching: float = 10.0
    adversarial: float = 1.0
    form: Adversarial = "least_squares"

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("l1", "gradient_correlation", "feature_matching", "adversarial"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected no negative weight, got {getattr(self, name)}")

    @property
    def uses_discriminator(self) -> bool:
        """Whether a discriminator takes part."""
        return self.feature_matching > 0 or self.adversarial > 0


def check_image_size(size: tuple[int, int], generator: GeneratorConfig) -> None:
    """What a generator, and discriminators at three scales, can take.

    Raises:
        ValueError: They cannot.
    """
    step = max(16, generator.stride)
    if min(size) < 32 or any(side % step for side in size):
        raise ValueError(f"image_size: expected multiples of {step} for {generator.backbone}, at least 32, got {size}")


def check_tuning(tune_share: float, loop: LoopConfig, train_patients: int = 0) -> None:
    """Make sure that there are patients to learn from, and for the choices that a loop makes.

    Raises:
        ValueError: There are none, or nobody else is left.
    """
    if train_patients < 0:
        raise ValueError(f"train_patients: expected no negative number, got {train_patients}")
    if not 0.0 <= tune_share < 1.0:
        raise ValueError(f"tune_share: expected 0 <= tune_share < 1, got {tune_share}")
    if loop.needs_tuning and not tune_share:
        raise ValueError("loop.keep best, loop.stop_early: expected a tune_share to choose with, got 0")


@dataclass(frozen=True)
class DecompositionConfig:
    """Training of a decomposition network.

    Attributes:
        dataset: A (pelvis and femur; stage one) or B (proximal femur; stage two).
        pairing: `unpaired` learns from radiographs and projections that do not belong together, as there are without
            a registration: every radiograph of a batch gets the next one's projection. The discriminators then judge
            projections alone, and L1 and gradient correlation hold the generator, where it still sees bone, to what
            the run that it starts from sees there; feature matching has to be 0.
        tune_share: Part of the other patients that nothing is learnt from, and that every choice is made on: threshold,
            kept epoch, early stop. They have figures in every epoch of the log.
        train_patients: Number of patients that are drawn, by the run's seed, of those left to train on; 0 for all.
        fold: Held out for the figures at the end; "all" trains on every patient and holds nobody out.
        train_poses: Only radiographs of these poses are trained on, whatever those of the held-out fold. Empty: all.
        image_size: (rows, columns) the images are brought to; 512 x 256 is their size on disk.
        verdicts: Registration verdicts of the pairs to use.
        generator, discriminator, losses, reexposure, augment, optimiser, loop, bmd: See there.
        last_layer: What becomes of the last layer if weights come from a run with other channels: `adapt` starts the
            proximal femur from what made the femur (or the first channel), `fresh` draws it anew. All other weights are
            taken over.
        half_in_memory: Whether images are kept in memory in half precision.
        montage_pairs: Number of rows of the montage.
        case_epochs: Epochs after which the projection of one held-out case is kept, in the folder `case` of the run.
    """

    dataset: DatasetName = "A"
    pairing: Literal["paired", "unpaired"] = "paired"
    fold: Fold = 0
    tune_share: float = 0.0
    train_patients: int = 0
    train_poses: tuple[str, ...] = ()
    image_size: tuple[int, int] = (512, 256)
    verdicts: tuple[str, ...] = ("accept", "review")
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    reexposure: ReexposureConfig = field(default_factory=ReexposureConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    bmd: BmdConfig = field(default_factory=BmdConfig)
    last_layer: Literal["adapt", "fresh"] = "adapt"
    half_in_memory: bool = False
    montage_pairs: int = 6
    case_epochs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_image_size(self.image_size, self.generator)
        check_tuning(self.tune_share, self.loop, self.train_patients)
        if self.pairing == "unpaired" and (self.losses.feature_matching or not self.losses.adversarial):
            raise ValueError("pairing: unpaired needs losses.feature_matching 0 and an adversarial loss")
        if self.pairing == "unpaired" and self.loop.batch_size < 2:
            raise ValueError("pairing: unpaired needs batches of at least 2")
        if self.reexposure.share and self.dataset != "B":
            raise ValueError(f"reexposure.share: expected 0 for dataset {self.dataset}, whose pairs keep no layers")
        if any(epoch < 1 for epoch in self.case_epochs):
            raise ValueError(f"case_epochs: expected 1 or more each, got {self.case_epochs}")
        if self.montage_pairs < 1:
            raise ValueError(f"montage_pairs: expected at least 1, got {self.montage_pairs}")
