"""DRRs for the eye: a camera that sees all of a body, and grey values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.drr.channels import Channels
from bmdkit.drr.rays import find_footprints

_MARGIN = 8


def fit_camera(
    channels: Channels,
    poses: Sequence[RigidTransform],
    *,
    sdd_mm: float,
    pixel_mm: float,
    rows: int | None = None,
    columns: int | None = None,
    reversed_columns: bool = False,
) -> ProjectionGeometry:
    """Find the camera, its central ray through the middle, whose image is just large enough for all that is not zero.

    Args:
        channels: Channels that will be projected.
        poses: All poses of the body.
        sdd_mm: Distance from source to detector.
        pixel_mm: Spacing of rows and columns at the detector.
        rows: Number of rows, where it is given.
        columns: Number of columns, where it is given.
        reversed_columns: Whether columns run along -x of the camera, as a PA radiograph is displayed.

    Raises:
        GeometryError: A pose puts occupied voxels at or behind the source.
    """
    most = 8192
    probe = ProjectionGeometry(sdd_mm, pixel_mm, pixel_mm, most, most)
    matrices = np.stack([pose.matrix for pose in poses])
    windows, behind = find_footprints(channels.grid, channels.box, matrices, [probe] * len(poses), (0, 0, most, most))
    if behind.any():
        raise GeometryError(f"poses: {np.flatnonzero(behind).tolist()} put the body at or behind the source")
    middle = most // 2
    reach = np.abs(windows - middle).max(axis=0)
    fitted = [2 * (int(max(reach[first : first + 2])) + _MARGIN) for first in (0, 2)]
    camera = ProjectionGeometry(sdd_mm, pixel_mm, pixel_mm, columns or fitted[1], rows or fitted[0])
    return replace(camera, reversed_columns=reversed_columns)


def choose_window(images: np.ndarray, *, whole_body: bool = False) -> tuple[float, float]:
    """Choose the values to show as black and as white.

    Args:
        images: Images of any shape, 0 where nothing projects.
        whole_body: Whether grey values are spent on the thick parts, as in the exposure of a radiograph.
    """
    values = images[images > 0.02 * images.max()]
    if values.size == 0:
        return 0.0, 1.0
    if whole_body:
        low, high = np.quantile(values, (0.2, 0.995))
        return float(low), float(high)
    return 0.0, float(np.quantile(values, 0.998))


def scale_to_grey(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8, brighter = denser."""
    return np.rint(np.clip((images - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)


def make_contact_sheet(images: np.ndarray) -> np.ndarray:
    """Images (P, C, rows, columns) as one: a row per pose, a column per channel."""
    poses, channels, rows, columns = images.shape
    return images.transpose(0, 2, 1, 3).reshape(poses * rows, channels * columns)
