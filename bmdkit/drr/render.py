"""Render many poses of several channels in one launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.drr import cpu
from bmdkit.drr.channels import Channels, require_memory
from bmdkit.drr.rays import Beam, Roi, footprints, geometries_of, pose_matrices, view_rays, window

Behind = Literal["raise", "blank"]


def render(
    channels: Channels,
    poses: Sequence[RigidTransform] | np.ndarray,
    geometry: ProjectionGeometry | Sequence[ProjectionGeometry],
    *,
    roi: Roi | None = None,
    device: str = "cpu",
    beam: Beam = "perspective",
    behind: Behind = "raise",
    threads: int | None = None,
    supersample: int = 1,
) -> np.ndarray:
    """Line integrals of every channel under every pose, by Joseph's method.

    A ray is sampled where it crosses the planes of voxel centres that it is most perpendicular to, bilinearly within
    the plane, each sample weighing the ray's length between two planes. The value is 0 outside the grid. An image
    never depends on what else is rendered with it.

    Args:
        channels: What is projected.
        poses: camera_from_ct of every view, (P, 4, 4) or rigid transforms.
        geometry: Of the detector, one for all views or one per view (with images of one size).
        roi: Window of the detector (first row, first column, rows, columns), the whole if not given; it may reach
            past the detector.
        device: "cpu" or "cuda[:N]".
        beam: "parallel" takes rays along +z through the detector's pixels, whose spacing is then that in the patient.
        behind: What to do with a pose that puts occupied voxels at or behind the source: raise, or leave it 0.
        threads: 1 keeps to the calling thread; None takes all of numba's. The image's bits are the same.
        supersample: Mean of n x n rays per pixel, so that a pixel stands for its area.

    Returns:
        (P, C, rows, columns), float32, value times mm.

    Raises:
        GeometryError: A matrix is not that of a rigid motion, or a pose puts occupied voxels behind the source.
        ValueError: Every voxel is zero, or an argument is out of its range.
        MemoryError: The images would not fit into the memory that is free.
    Source:
        Joseph 1982, doi 10.1109/TMI.1982.4307572.
    """
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu or cuda[:N], got {device!r}")
    if supersample > 1:
        options = {"device": device, "beam": beam, "behind": behind, "threads": threads}
        return _supersampled(channels, poses, geometry, roi, supersample, options)
    matrices = pose_matrices(poses)
    geometries = geometries_of(geometry, len(matrices))
    within = window(roi, geometries[0])
    channels = channels.with_two_voxels()
    views = view_rays(channels.grid, matrices, geometries, beam)
    windows, hidden = footprints(channels.grid, channels.box, matrices, geometries, within, beam)
    if hidden.any():
        if behind == "raise":
            at = np.flatnonzero(hidden).tolist()
            raise GeometryError(f"poses: expected every occupied voxel in front of the source, not so at {at}")
        windows[hidden] = 0
    shape = (len(matrices), len(channels), *within[2:])
    require_memory(4 * math.prod(shape), "images")
    if device != "cpu":
        from bmdkit.drr import cuda

        return cuda.march(cuda.upload(channels, device), views, windows, within).cpu().numpy()
    images = np.zeros(shape, np.float32)
    march = cpu.march if (threads or cpu.threads()) == 1 else cpu.march_threaded
    march(
        channels.arrays,
        channels.occupied,
        channels.box,
        views,
        windows,
        *within[:2],
        images,
    )
    return images


def _supersampled(channels, poses, geometry, roi, factor, options) -> np.ndarray:
    """Pose by pose, so that only one fine image is held at a time."""
    matrices = pose_matrices(poses)
    geometries = geometries_of(geometry, len(matrices))
    row, column, rows, columns = window(roi, geometries[0])
    fine_roi = (row * factor, column * factor, rows * factor, columns * factor)
    images = np.empty((len(matrices), len(channels), rows, columns), np.float32)
    for image, matrix, coarse in zip(images, matrices, geometries, strict=True):
        fine = render(
            channels,
            matrix[None],
            coarse.resized(coarse.rows * factor, coarse.columns * factor),
            roi=fine_roi,
            **options,
        )
        fine.reshape(-1, rows, factor, columns, factor).mean(axis=(2, 4), out=image)
    return images
