"""The cuts of the proximal femur, and the turn that lays the femur in the coronal plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.core.grid import Grid, frozen
from bmdkit.core.landmarks import Landmarks
from bmdkit.errors import CaseError


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane, and which of its sides counts.

    Attributes:
        point_mm: (3,), on the plane, LPS, mm.
        normal: (3,), unit vector to the side that is kept.
    """

    point_mm: np.ndarray
    normal: np.ndarray

    def __post_init__(self) -> None:
        """Scale the normal to one."""
        normal = np.array(self.normal, float)
        length = np.linalg.norm(normal)
        if normal.shape != (3,) or not np.isfinite(length) or length == 0:
            raise ValueError(f"normal: expected a non-zero vector of three numbers, got {self.normal!r}")
        object.__setattr__(self, "normal", frozen(normal / length))
        object.__setattr__(self, "point_mm", frozen(np.array(self.point_mm, float)))

    def height_mm(self, points_mm: np.ndarray) -> np.ndarray:
        """Signed distances (...,) of points (..., 3) from the plane, mm, positive on the side that is kept."""
        return (np.asarray(points_mm, float) - self.point_mm) @ self.normal


def require_landmarks(landmarks: Landmarks) -> None:
    """Check that all eight landmarks are there.

    Raises:
        CaseError: BMD-PF-001, one is missing.
    """
    missing = landmarks.missing()
    if missing:
        raise CaseError("BMD-PF-001", f"hip {landmarks.side}: no {', '.join(missing)}.")


def find_junction_plane(landmarks: Landmarks) -> Plane:
    """The plane between head and neck: least squares through the four junction points, the neck's side kept.

    Source: Uemura et al. 2022.
    """
    four = landmarks.junction()
    middle = four.mean(axis=0)
    normal = np.linalg.svd(four - middle)[2][2]
    to_neck = landmarks["neck_center"] - landmarks["head_center"]
    return Plane(middle, normal if normal @ to_neck > 0 else -normal)


def find_distal_plane(landmarks: Landmarks, grid: Grid) -> Plane:
    """The CT's axial plane through shaft_2cm, its proximal side kept."""
    axis = grid.direction[:, np.argmax(np.abs(grid.direction[2]))]
    return Plane(landmarks["shaft_2cm"], axis if axis[2] > 0 else -axis)


def find_coronal_turn(landmarks: Landmarks) -> np.ndarray:
    """The rotation that brings the neck axis into the coronal plane and then the shaft upright.

    Returns:
        (3, 3), about LPS z and then about y; flexion is left as it is.
    """
    neck = landmarks["neck_center"] - landmarks["head_center"]
    about_z = _turn(-np.arctan2(neck[1], neck[0]) + (0.0 if neck[0] > 0 else np.pi), (0, 1))
    shaft = about_z @ (landmarks["shaft_2cm"] - landmarks["shaft_5cm"])
    return _turn(np.arctan2(shaft[0], shaft[2]), (0, 2)) @ about_z


def _turn(angle_rad: float, axes: tuple[int, int]) -> np.ndarray:
    """The rotation by `angle_rad` that takes the first of two axes towards the second.

    Written out: scipy's rotations go through quaternions, and their last bits would move the edges of pixels.
    """
    matrix = np.eye(3)
    first, second = axes
    matrix[first, first] = matrix[second, second] = np.cos(angle_rad)
    matrix[first, second], matrix[second, first] = -np.sin(angle_rad), np.sin(angle_rad)
    return matrix
