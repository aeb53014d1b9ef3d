"""Everything that can change what a build makes; each stage's own settings are nested as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bmdkit.calibration.modes import CalibrationConfig
from bmdkit.dataset.pairs import PairConfig
from bmdkit.dataset.splits import FOLDS
from bmdkit.io.ct_settings import CtConfig
from bmdkit.io.patient_identity import SamePerson
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.segmentation.ct_labels import SegmentationConfig
from bmdkit.segmentation.labels import LabelConfig

Which = Literal["A", "B", "both"]
TargetQuantity = Literal["density", "hu"]


@dataclass(frozen=True)
class BuildConfig:
    """Settings of build-dataset.

    Attributes:
        dataset: A (pelvis and femur), B (proximal femur and BMD), or both.
        seed: Seed of all random draws, and of the folds.
        folds: Number of folds.
        targets: Quantity that the projections show: the calibrated density, or the HU of the CT as they are. BMD is of
            the calibrated density either way. Without calibration (calibration.mode none) they always show HU.
        same_person: Rule by which CT and radiograph are held to be of one person: "ids" by identifier (without leading
            zeros and blanks) and birth date, "strict" by all tags, "given" believes the table and warns.
        ct, xray, calibration, labels, segmentation, registration, pairs: Settings of the stages.
    """

    dataset: Which = "both"
    seed: int = 0
    folds: int = FOLDS
    targets: TargetQuantity = "density"
    same_person: SamePerson = "ids"
    ct: CtConfig = field(default_factory=CtConfig)
    xray: XrayConfig = field(default_factory=XrayConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    registration: RegistrationConfig = field(default_factory=RegistrationConfig)
    pairs: PairConfig = field(default_factory=PairConfig)

    @property
    def datasets(self) -> tuple[Literal["A", "B"], ...]:
        """The datasets that are built."""
        return ("A", "B") if self.dataset == "both" else (self.dataset,)

    @property
    def target_quantity(self) -> TargetQuantity:
        """Quantity that the projections show."""
        return "hu" if self.calibration.mode == "none" else self.targets
