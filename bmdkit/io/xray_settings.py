"""How a radiograph is read, and what its file says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

SDD_RANGE_MM = (400.0, 5000.0)
SPACING_RANGE_MM = (0.01, 4.0)

Unsuitable = Literal["quarantine", "warn"]


@dataclass(frozen=True)
class XrayConfig:
    """How radiographs are read.

    Attributes:
        default_sdd_mm: Taken when the file does not say; None leaves the distance unknown (and the case quarantined).
        default_pixel_mm: The same for the pixel spacing at the detector.
        voi: Which value-of-interest transforms of the file to apply: its look-up table, also its windows, or none.
            A window only clips, and the scaling here is robust without it.
        color, multiframe, screenshot, lossy, precision: What becomes of an image that is RGB; has several frames (the
            first is taken); is a screenshot; was compressed with loss; or whose JPEG 2000 precision is not BitsStored.
        low_percentile, high_percentile: Values within the mask that become 0 and 1.
        mask_borders, mask_markers: Whether flat borders and burned-in markers are looked for.
    """

    default_sdd_mm: float | None = None
    default_pixel_mm: float | None = None
    voi: Literal["lut", "all", "none"] = "lut"
    color: Unsuitable = "quarantine"
    multiframe: Unsuitable = "quarantine"
    screenshot: Unsuitable = "quarantine"
    lossy: Unsuitable = "quarantine"
    precision: Unsuitable = "quarantine"
    low_percentile: float = 0.5
    high_percentile: float = 99.5
    mask_borders: bool = True
    mask_markers: bool = True

    def __post_init__(self) -> None:
        for name, (low, high) in (("default_sdd_mm", SDD_RANGE_MM), ("default_pixel_mm", SPACING_RANGE_MM)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name}: expected {low:g} to {high:g} mm, got {value!r}")
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise ValueError(
                f"low_percentile, high_percentile: expected 0 <= low < high <= 100, got {self.low_percentile!r}, "
                f"{self.high_percentile!r}"
            )


@dataclass
class XrayFacts:
    """What one file says, before it becomes a Radiograph; filled step by step by its reader.

    Attributes:
        values: [row, column], float32, brighter = denser, any scale; None while only the header was read.
        hidden: [row, column], bool, pixels that the file itself marks as no image.
        spacing_mm: Between columns, between rows, at the detector.
    """

    values: np.ndarray | None = None
    hidden: np.ndarray | None = None
    spacing_mm: tuple[float, float] | None = None
    sdd_mm: float | None = None
    sources: dict[str, str] | None = None
    warnings: list[str] | None = None
    laterality: str | None = None
    patient_key: str | None = None

    def __post_init__(self) -> None:
        self.sources = {} if self.sources is None else self.sources
        self.warnings = [] if self.warnings is None else self.warnings
