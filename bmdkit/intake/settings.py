"""What decides how a tree of exports becomes a cohort."""

from __future__ import annotations

from dataclasses import dataclass, field

from bmdkit.io.xray_settings import XrayConfig


@dataclass(frozen=True)
class IntakeConfig:
    """How CTs and radiographs are paired.

    Attributes:
        max_days: Most days between a CT and a radiograph that are paired: bone changes, and hips are operated on.
        least_slices: Fewest slices of a CT series that can hold a proximal femur.
        look_at_images: Whether the pixels are looked at where the header does not say which hips are shown.
        xray: How radiographs are read; the same section as in a recipe of build-dataset.
    """

    max_days: int = 180
    least_slices: int = 20
    look_at_images: bool = True
    xray: XrayConfig = field(default_factory=XrayConfig)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.max_days < 0:
            raise ValueError(f"max_days: expected 0 or more, got {self.max_days!r}")
        if self.least_slices < 1:
            raise ValueError(f"least_slices: expected 1 or more, got {self.least_slices!r}")
