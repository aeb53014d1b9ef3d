"""A camera as somebody calibrated it: its projection, where it stands, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform


@dataclass(frozen=True)
class CameraSpread:
    """Standard deviations of what is known of a camera; 0: its number is taken as it is.

    Attributes:
        principal_point_mm: Where the central ray meets the detector, each way.
        sdd_pct: Source distance, %.
        rotation_deg: Turn of the camera in the world, each axis.
        translation_mm: Place of the camera in the world, each axis.
    """

    principal_point_mm: float = 0.0
    sdd_pct: float = 0.0
    rotation_deg: float = 0.0
    translation_mm: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
                raise ValueError(f"sd.{each.name}: expected a number of at least 0, got {value!r}")


@dataclass(frozen=True, eq=False)
class CalibratedCamera:
    """A camera whose numbers are known.

    Attributes:
        geometry: Projection of the radiograph's full-resolution pixels.
        camera_from_world: Where the camera stands in a world that it shares with others, mm; None if that is unknown.
        sd: How sure all of it is.
        source: Origin of the numbers.

    Example:
        >>> flat = ProjectionGeometry(sdd_mm=1000, column_spacing_mm=0.5, row_spacing_mm=0.5, columns=401, rows=301)
        >>> CalibratedCamera(flat).camera_from_world is None
        True
    """

    geometry: ProjectionGeometry
    camera_from_world: RigidTransform | None = None
    sd: CameraSpread = field(default_factory=CameraSpread)
    source: str = "given"

    def to_dict(self) -> dict[str, Any]:
        """As an entry of a camera file."""
        found = self.geometry.to_dict()
        if self.camera_from_world is not None:
            found["camera_from_world"] = self.camera_from_world.matrix.tolist()
        return found | {"sd": {each.name: getattr(self.sd, each.name) for each in fields(self.sd)}}
