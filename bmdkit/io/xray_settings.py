"""How a radiograph is read, and what its file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bmdkit.core.radiograph import TubeSettings
from bmdkit.image_content.polarity import Polarity
from bmdkit.io.camera_files import SDD_RANGE_MM, SPACING_RANGE_MM, CameraEntry
from bmdkit.io.dicom_header import Laterality

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
        view: What becomes of an image whose tags name a view that is not frontal, or another part of the body.
        resampled: What becomes of an image whose size does not fit its pixel spacing.
        polarity: Whether bone is brighter or darker than soft tissue in the stored values; auto: the image decides,
            and where it tells nothing, the file's tags.
        low_percentile, high_percentile: Values within the mask that become 0 and 1.
        mask_borders, mask_markers: Whether borders and collimators, and burned-in markers, are looked for.
    """

    default_sdd_mm: float | None = None
    default_pixel_mm: float | None = None
    voi: Literal["lut", "all", "none"] = "lut"
    color: Unsuitable = "quarantine"
    multiframe: Unsuitable = "quarantine"
    screenshot: Unsuitable = "quarantine"
    lossy: Unsuitable = "quarantine"
    precision: Unsuitable = "quarantine"
    view: Unsuitable = "quarantine"
    resampled: Unsuitable = "warn"
    polarity: Polarity = "auto"
    low_percentile: float = 0.5
    high_percentile: float = 99.5
    mask_borders: bool = True
    mask_markers: bool = True

    def __post_init__(self) -> None:
        """Check that distances and percentiles are plausible."""
        for name, (low, high) in (("default_sdd_mm", SDD_RANGE_MM), ("default_pixel_mm", SPACING_RANGE_MM)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name}: expected {low:g} to {high:g} mm, got {value!r}")
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise ValueError(
                f"low_percentile, high_percentile: expected 0 <= low < high <= 100, got {self.low_percentile!r}, "
                f"{self.high_percentile!r}"
            )


@dataclass(frozen=True)
class XrayFacts:
    """What one file says of its radiograph, without its pixels.

    Attributes:
        spacing_mm: Between columns, between rows, at the detector; None where the file does not say.
        sdd_mm: Source to detector; None where the file does not say.
        laterality: The side that the file names, L, R, B or None.
        patient_key: Hashes of who the file says it shows; None if it says nothing.
        sources: Where each value comes from.
        warnings: What a user should know about the file.
        camera: Whole camera, where the side-car gives one.
        tube: How the tube was set.
    """

    spacing_mm: tuple[float, float] | None
    sdd_mm: float | None
    laterality: Laterality | None
    patient_key: str | None
    sources: Mapping[str, str]
    warnings: tuple[str, ...]
    camera: CameraEntry | None = None
    tube: TubeSettings = field(default_factory=TubeSettings)

    def assume_defaults(self, config: XrayConfig) -> XrayFacts:
        """Take the distances of the settings where the file does not say them."""
        sources, warnings = dict(self.sources), list(self.warnings)
        sdd_mm, spacing_mm = self.sdd_mm, self.spacing_mm
        if sdd_mm is None and config.default_sdd_mm is not None:
            sdd_mm, sources["sdd_mm"] = config.default_sdd_mm, "assumed"
            warnings.append(f"source to detector distance not in the file, {sdd_mm:g} mm assumed")
        if spacing_mm is None and config.default_pixel_mm is not None:
            spacing_mm, sources["spacing_mm"] = (config.default_pixel_mm, config.default_pixel_mm), "assumed"
            warnings.append(f"pixel spacing not in the file, {config.default_pixel_mm:g} mm assumed")
        return replace(self, sdd_mm=sdd_mm, spacing_mm=spacing_mm, sources=sources, warnings=tuple(warnings))


@dataclass(frozen=True, eq=False)
class XrayImage:
    """A radiograph as its file holds it, upright and in the right direction, before it is scaled.

    Attributes:
        facts: What the file says.
        values: [row, column], float32, brighter = denser, any scale.
        hidden: [row, column], bool, pixels that the file itself marks as no image.
        collimated: [row, column], bool, pixels that the file says lie behind a collimator; not to be trusted alone.
    """

    facts: XrayFacts
    values: np.ndarray
    hidden: np.ndarray
    collimated: np.ndarray | None = None
