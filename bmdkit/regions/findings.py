"""What a check found, and the limits of the checks."""

from __future__ import annotations

from dataclasses import dataclass

from bmdkit.core.anatomy import Side


@dataclass(frozen=True)
class Flag:
    """One finding.

    Attributes:
        code: Of `bmdkit.errors.CODES`.
        message: In words, with what was measured and what is allowed.
        measured, allowed: The same as numbers; nothing measured is None.
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
        metal_hu: Denser than any bone; CTs stored in 12 bits end at 3071 HU.
        metal_ml: Volume of metal in one piece that is an implant.
        metal_reach_mm: Metal this far from a bone of the hip belongs to it.
        landmark_reach_mm: A landmark this far from the femur's voxels does not lie on it.
        least_femur_mm: From the top of the head to the level of shaft_2cm in a small adult.
        head_cap_mm2: A femur whose highest section is larger than this, at the scan's upper end, has lost its head.
    """

    metal_hu: float = 2500.0
    metal_ml: float = 0.5
    metal_reach_mm: float = 15.0
    landmark_reach_mm: float = 12.0
    least_femur_mm: float = 95.0
    head_cap_mm2: float = 250.0
