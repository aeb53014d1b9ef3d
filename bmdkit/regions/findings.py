"""What a check found, and the limits of the checks."""

from __future__ import annotations

from dataclasses import dataclass

from bmdkit.core.anatomy import Side


@dataclass(frozen=True)
class Flag:
    """One finding.

    Attributes:
        code: Code of `bmdkit.errors.CODES`.
        message: Sentence with what was measured and what is allowed.
        measured: Number that was measured, or None.
        allowed: Number that is allowed.
        side: The hip concerned, or None.
    """

    code: str
    message: str
    measured: float | None
    allowed: float
    side: Side | None = None


@dataclass(frozen=True)
class QualityConfig:
    """Limits of the checks.

    Attributes:
        metal_hu: HU of metal, denser than any bone; CTs stored in 12 bits end at 3071 HU.
        metal_ml: Volume of metal in one piece that is an implant.
        metal_reach_mm: Distance from a bone of the hip within which metal belongs to it.
        landmark_reach_mm: Distance from the femur's voxels beyond which a landmark does not lie on it.
        least_femur_mm: Length from the top of the head to the level of shaft_2cm in a small adult.
        head_cap_mm2: Area of the highest section, at the scan's upper end, above which a femur has lost its head.
    """

    metal_hu: float = 2500.0
    metal_ml: float = 0.5
    metal_reach_mm: float = 15.0
    landmark_reach_mm: float = 12.0
    least_femur_mm: float = 95.0
    head_cap_mm2: float = 250.0
