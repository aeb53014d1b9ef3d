"""What the uncertainty of a pose does to the density that a pair shows."""

from __future__ import annotations

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.pose_json import RecordedBody
from bmdkit.drr.targets import Region, measure_projected_mean, project_region
from bmdkit.registration.pose_parameters import PoseParameters

_WITHIN_95 = 1.96  # standard deviations of a normal distribution that hold 95 %
_LEAST_STEP = np.array([np.radians(0.5)] * 3 + [0.5, 0.5, 3.0])
_SHRUNK = 2


def estimate_region_error(
    region: Region, body: RecordedBody, camera: ProjectionGeometry, *, device: str = "cpu"
) -> float | None:
    """Estimate the error of a region's mean projection, %, that 95 % of the poses like this one stay below.

    The covariance of the pose, as the curvature of the registration's cost gives it, is carried through the change of
    the mean by each of the six values of the pose. What the curvature does not know (a wrong source distance, a wrong
    optimum) is not in it.

    Args:
        region: Region of the CT whose mean projection is meant.
        body: Pose of the bone, with its covariance.
        camera: Camera of the radiograph.
        device: Device of the renderer.

    Returns:
        The error; None where the registration does not say how sure its pose is.
    """
    spread = body.spread
    if spread is None:
        return None
    small = camera.resized(max(camera.rows // _SHRUNK, 1), max(camera.columns // _SHRUNK, 1))
    parameters = PoseParameters(body.camera_from_ct, spread.centre_mm, np.ones(6))

    def measure(values: np.ndarray) -> float:
        return measure_projected_mean(project_region(region, parameters.pose(values), small, device=device))

    steps = np.maximum(np.sqrt(np.clip(np.diag(spread.covariance), 0, None)), _LEAST_STEP)
    slopes = [(measure(step) - measure(-step)) / (2 * step.sum()) for step in np.diag(steps)]
    variance = float(np.array(slopes) @ spread.covariance @ np.array(slopes))
    return 100 * _WITHIN_95 * float(np.sqrt(max(variance, 0.0))) / measure(np.zeros(6))
