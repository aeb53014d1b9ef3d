"""The camera's own variables: where the central ray meets the detector, and how far the source is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.registration.pose_parameters import rotations

LENS_MM = 10.0
"""One unit of the principal point's two variables, at the detector."""

LENS_SDD = 0.02
"""One unit of the source distance's variable, as a share of it."""


def adjusted(geometry: ProjectionGeometry, lens: np.ndarray) -> ProjectionGeometry:
    """A camera whose principal point, and source distance, are moved by scaled values (2,) or (3,)."""
    spacing = np.array([geometry.column_spacing_mm, geometry.row_spacing_mm])
    sdd = geometry.sdd_mm * (1 + LENS_SDD * lens[2] if len(lens) > 2 else 1)
    return replace(geometry, sdd_mm=sdd, principal_point_uv=geometry.principal_point_uv + LENS_MM * lens[:2] / spacing)


def following(geometry: ProjectionGeometry, lens: np.ndarray) -> np.ndarray:
    """Turns about the source by which bodies keep their place in the image while the principal point moves.

    What the radiograph shows of a principal point is then seen apart from the poses: the keystone that remains.

    Args:
        geometry: Of lens (0, 0).
        lens: (n, 2 or more), scaled values as in `adjusted`.

    Returns:
        (n, 4, 4), to be put before camera_from_ct.
    """
    moved = LENS_MM * np.asarray(lens, float)[:, :2] / geometry.sdd_mm
    tangent = np.linalg.norm(moved, axis=1, keepdims=True)
    angle = np.arctan(tangent) / np.maximum(tangent, 1e-12)
    turns = np.tile(np.eye(4), (len(moved), 1, 1))
    turns[:, :3, :3] = rotations(angle * np.stack([moved[:, 1], -moved[:, 0], 0 * moved[:, 0]], axis=1))
    return turns
