"""The camera's own variables: where the central ray meets the detector, and how far the source is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.registration.pose_parameters import make_rotations

PRINCIPAL_POINT_UNIT_MM = 10.0
"""One unit of the principal point's two variables, at the detector."""

SDD_UNIT = 0.02
"""One unit of the source distance's variable, as a share of it."""


def adjust_camera(geometry: ProjectionGeometry, intrinsics: np.ndarray) -> ProjectionGeometry:
    """Move the principal point of a camera, and its source distance.

    Args:
        geometry: Camera of the zeros.
        intrinsics: (2,) or (3,), scaled values: principal point along the camera's x and y, source distance.
    """
    sdd = geometry.sdd_mm * (1 + SDD_UNIT * intrinsics[2] if len(intrinsics) > 2 else 1)
    point = geometry.principal_point_uv + PRINCIPAL_POINT_UNIT_MM * intrinsics[:2] / geometry.pixel_step_mm
    return replace(geometry, sdd_mm=sdd, principal_point_uv=point)


def follow_principal_point(geometry: ProjectionGeometry, intrinsics: np.ndarray) -> np.ndarray:
    """Find the turns about the source by which bodies keep their place in the image while the principal point moves.

    What the radiograph shows of a principal point is then seen apart from the poses: the keystone that remains.

    Args:
        geometry: Camera of the zeros.
        intrinsics: (n, 2 or more), scaled values as in `adjust_camera`.

    Returns:
        (n, 4, 4), to be put before camera_from_ct.
    """
    moved = PRINCIPAL_POINT_UNIT_MM * np.asarray(intrinsics, float)[:, :2] / geometry.sdd_mm
    tangent = np.linalg.norm(moved, axis=1, keepdims=True)
    angle = np.arctan(tangent) / np.maximum(tangent, 1e-12)
    turns = np.tile(np.eye(4), (len(moved), 1, 1))
    turns[:, :3, :3] = make_rotations(angle * np.stack([moved[:, 1], -moved[:, 0], 0 * moved[:, 0]], axis=1))
    return turns
