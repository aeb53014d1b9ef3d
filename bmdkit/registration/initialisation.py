"""Where a search starts: the standard view, or pairs of landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import least_squares

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.pose import View, standard_view
from bmdkit.registration.bodies import Body
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.settings import RegistrationConfig


def make_default_start(
    bodies: Sequence[Body], geometry: ProjectionGeometry, config: RegistrationConfig | None = None
) -> RigidTransform:
    """camera_from_ct of an AP radiograph, of a PA one if columns are reversed: the hips' middle on the central ray."""
    config = config or RegistrationConfig()
    joints = [point for body in bodies[:1] for point in body.joints_mm.values()] or [bodies[0].centre_mm]
    focus = np.mean(joints, axis=0)
    view: View = "pa" if geometry.reversed_columns else "ap"
    return standard_view(view, focus, geometry, object_to_detector_mm=config.object_to_detector_mm)


def find_start_from_points(
    points_mm: Mapping[str, np.ndarray],
    pixels_uv: Mapping[str, np.ndarray],
    geometry: ProjectionGeometry,
    guess: RigidTransform,
) -> RigidTransform:
    """camera_from_ct that projects named points of the CT onto their pixels, by least squares from a guess.

    Args:
        points_mm: Name -> (3,), LPS, mm.
        pixels_uv: Name -> (2,), pixels (column, row); names that are not in both are left out.
        geometry: The camera.
        guess: Pose to begin with, for instance the default start.

    Raises:
        ValueError: Fewer than three pairs.
    """
    names = [name for name in points_mm if name in pixels_uv]
    if len(names) < 3:
        raise ValueError(f"points_mm, pixels_uv: expected at least three names in both, got {names}")
    points = np.array([points_mm[name] for name in names], float)
    target = np.array([pixels_uv[name] for name in names], float)
    step = geometry.pixel_step_mm
    parameters = PoseParameters(guess, points.mean(0))

    def residuals(values: np.ndarray) -> np.ndarray:
        seen = parameters.pose(values).apply(points)
        depth = np.maximum(seen[:, 2:], 1.0)
        uv = geometry.sdd_mm * seen[:, :2] / depth / step + geometry.principal_point_uv
        return np.concatenate([((uv - target) * step).ravel(), 0.01 * values])  # a weak pull: three points are few

    return parameters.pose(least_squares(residuals, np.zeros(6), loss="soft_l1", f_scale=5.0).x)
