"""One plain radiograph, normalised so that brighter means denser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.calibrated_camera import CalibratedCamera
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.grid import frozen


@dataclass(frozen=True)
class SingleHip:
    """The part of a radiograph that shows its only hip.

    Attributes:
        first_column, last_column: Its borders in pixel edges: 0 is the outer edge of the first pixel.
        side: Side that it shows if the image is displayed as usual, the patient's left on its right; None if the
            image does not tell.
    """

    first_column: float
    last_column: float
    side: Side | None

    def __post_init__(self) -> None:
        """Check that the part is not empty."""
        if not self.first_column < self.last_column:
            raise ValueError(f"first_column: expected less than {self.last_column}, got {self.first_column}")


@dataclass(frozen=True)
class TubeSettings:
    """How the X-ray tube was set for a radiograph; None where the file does not say.

    Attributes:
        voltage_kv: Peak tube voltage, DICOM (0018,0060).
        exposure_mas: Product of tube current and time, DICOM (0018,1152), or what stands in its place.
    """

    voltage_kv: float | None = None
    exposure_mas: float | None = None


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A projection image as it was read, in its own pixels.

    Attributes:
        pixels: [row, column], float32 in [0, 1], brighter = denser; log-like (attenuation up to contrast).
        mask: [row, column], bool, True where the pixel is image (not padding, collimator or burned-in marker).
        column_spacing_mm, row_spacing_mm: Pixel at the detector; None when the file does not say.
        sdd_mm: Source to detector; None when the file does not say.
        sources: Origin of each of sdd_mm, spacing_mm, intensity, for the record.
        laterality: The side that the file names, "L", "R", "B" or None.
        warnings: What a user should know about the reading.
        patient_key: A hash of who the file says it shows, to be compared with the CT's; never written out.
        single_hip: Where the only hip is shown; None where both are.
        camera: Camera that belongs to the file; None where there is no more than the distances above.
        tube: How the tube was set.

    Example:
        >>> shown = Radiograph(np.zeros((300, 400)), np.ones((300, 400), bool), 0.5, 0.5, sdd_mm=1100)
        >>> shown.geometry().columns
        400
    """

    pixels: np.ndarray
    mask: np.ndarray
    column_spacing_mm: float | None = None
    row_spacing_mm: float | None = None
    sdd_mm: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    laterality: str | None = None
    warnings: tuple[str, ...] = ()
    patient_key: str | None = None
    single_hip: SingleHip | None = None
    camera: CalibratedCamera | None = None
    tube: TubeSettings = field(default_factory=TubeSettings)

    def __post_init__(self) -> None:
        """Make the arrays read-only and check that they fit together and are finite."""
        object.__setattr__(self, "pixels", frozen(self.pixels, np.float32))
        object.__setattr__(self, "mask", frozen(self.mask, bool))
        if self.pixels.ndim != 2 or self.pixels.shape != self.mask.shape:
            raise ValueError(f"pixels, mask: expected two equal 2-D shapes, got {self.pixels.shape}, {self.mask.shape}")
        if not np.isfinite(self.pixels).all():
            raise ValueError("pixels: expected finite values")

    def __repr__(self) -> str:
        """Shape, spacing, source distance, laterality and masked share in one line; nothing of the patient."""
        spacing = (self.row_spacing_mm, self.column_spacing_mm)
        millimetres = "unknown" if None in spacing else "({:.6g}, {:.6g})".format(*spacing)
        distance = "unknown" if self.sdd_mm is None else f"{self.sdd_mm:.6g}"
        return (
            f"Radiograph(shape={self.shape}, spacing_mm={millimetres}, sdd_mm={distance}, "
            f"laterality={self.laterality}, {self.mask.mean():.0%} image)"
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.pixels.shape

    def geometry(self) -> ProjectionGeometry:
        """The camera; its central ray goes through the middle of the image unless the file gives a whole camera.

        Raises:
            ValueError: A distance is not known.
        """
        if self.camera is not None:
            return self.camera.geometry
        if self.sdd_mm is None or self.column_spacing_mm is None or self.row_spacing_mm is None:
            raise ValueError("radiograph: its SDD and pixel spacing are needed for a projection geometry")
        rows, columns = self.shape
        return ProjectionGeometry(self.sdd_mm, self.column_spacing_mm, self.row_spacing_mm, columns, rows)
