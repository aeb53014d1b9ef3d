"""Where a body is in front of the camera, and the standard views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform

View = Literal["ap", "pa", "lateral_left", "lateral_right"]

# rows: the camera's x (columns), y (rows) and z (away from the source) in LPS
_VIEWS = {
    "ap": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],  # x = patient left, y = inferior, z = posterior
    "pa": [[-1, 0, 0], [0, 0, -1], [0, -1, 0]],
    "lateral_left": [[0, 1, 0], [0, 0, -1], [-1, 0, 0]],  # the source on the patient's left
    "lateral_right": [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
}


@dataclass(frozen=True, eq=False)
class Pose:
    """One rigid body in front of the camera.

    Attributes:
        body: "pelvis", "femur_L" or "femur_R".
        camera_from_ct: Transform from the CT's LPS to camera coordinates, mm.

    Example:
        >>> Pose("pelvis", RigidTransform.from_parts(np.eye(3), (0, 0, 850))).camera_from_ct.translation_mm
        array([  0.,   0., 850.])
    """

    body: str
    camera_from_ct: RigidTransform


def find_view_rotation(view: View) -> np.ndarray:
    """(3, 3), from LPS axes to camera axes of a standard view."""
    if view not in _VIEWS:
        raise ValueError(f"view: expected one of {', '.join(_VIEWS)}, got {view!r}")
    return np.array(_VIEWS[view], dtype=float)


def standard_view(
    view: View, focus_mm: np.ndarray, geometry: ProjectionGeometry, *, object_to_detector_mm: float = 150.0
) -> RigidTransform:
    """camera_from_ct with `focus_mm` (LPS) on the central ray, `object_to_detector_mm` in front of the detector."""
    turn = find_view_rotation(view)
    depth = geometry.sdd_mm - object_to_detector_mm
    return RigidTransform.from_parts(turn, np.array([0, 0, depth]) - turn @ np.asarray(focus_mm, float))
