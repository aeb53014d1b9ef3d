"""Digitally reconstructed radiographs: many poses of several channels in one launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np

from bmdkit.core.arguments import require_type
from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.pose import View, standard_view
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.drr import cpu, cpu_gradient
from bmdkit.drr.channels import Channels, prepare_channels, require_memory
from bmdkit.drr.rays import Beam, Roi, find_footprints, repeat_geometry, set_up_rays, stack_poses, window

Behind = Literal["raise", "blank"]


class _Options(TypedDict):
    """Options of `render` that a finer image has too."""

    device: str
    beam: Beam
    behind: Behind
    threads: int | None


def render(
    volume: Volume | Channels,
    poses: View | Sequence[RigidTransform] | np.ndarray,
    geometry: ProjectionGeometry | Sequence[ProjectionGeometry],
    *,
    labels: LabelMap | None = None,
    structures: Sequence[Sequence[str]] = (),
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
        volume: Calibrated density or attenuation; or channels that `prepare_channels` made. HU are refused: air would
            count as less than nothing.
        poses: Transform camera_from_ct of every view, (P, 4, 4) or rigid transforms; or the name of one standard view
            ("ap", "pa", "lateral_left", "lateral_right") of the middle of what is projected.
        geometry: Camera of all views, or one per view (with images of one size).
        labels: Label map that says which voxels of `volume` are projected. Without it the whole volume is, and values
            below zero (air, fat) count as zero.
        structures: Groups of structures of `labels`, one channel each; all that is labelled if not given.
        roi: Window of the detector (first row, first column, rows, columns), the whole if not given; it may reach
            past the detector.
        device: Device that renders, "cpu" or "cuda[:N]".
        beam: Shape of the beam; "parallel" takes rays along +z through the detector's pixels, whose spacing is then
            that in the patient.
        behind: Answer to a pose that puts occupied voxels at or behind the source: raise, or leave its image 0.
        threads: Number of threads: 1 keeps to the calling thread; None takes all of numba's. The bits of the image
            are the same.
        supersample: Number n of n x n rays per pixel, so that a pixel stands for its area.

    Returns:
        (P, C, rows, columns), float32, value times mm; times 1e-4 it is g/cm2 for a density in mg/cm3.

    Raises:
        GeometryError: A matrix is not that of a rigid motion, or a pose puts occupied voxels behind the source.
        ValueError: The volume holds HU, every voxel is zero, or an argument is out of its range.
        MemoryError: The images would not fit into the memory that is free.

    Example:
        >>> import numpy as np
        >>> from bmdkit.core.grid import Grid
        >>> from bmdkit.core.volume import Volume
        >>> grid = Grid((40, 40, 40), (1, 1, 1), (0, 0, 0), np.eye(3))
        >>> cube = Volume(np.full(grid.shape, 1000, np.float32), grid, "density_mg_cm3")
        >>> camera = ProjectionGeometry(1000, 1, 1, columns=81, rows=81)
        >>> image = render(cube, "ap", camera)[0, 0] * 1e-4  # 40 mm of 1 g/cm3 are 4 g/cm2
        >>> round(float(image[40, 40]), 3)
        4.0

    Source:
        Joseph 1982, doi 10.1109/TMI.1982.4307572.
    """
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu or cuda[:N], got {device!r}")
    channels = _channels_of(volume, labels, structures)
    if isinstance(poses, str):
        poses = [_standard_pose(channels, poses, geometry)]
    if supersample > 1:
        options: _Options = {"device": device, "beam": beam, "behind": behind, "threads": threads}
        return _supersample(channels, poses, geometry, roi, supersample, options)
    matrices = stack_poses(poses)
    geometries = repeat_geometry(geometry, len(matrices))
    within = window(roi, geometries[0])
    channels = channels.with_two_voxels()
    views = set_up_rays(channels.grid, matrices, geometries, beam)
    windows = _find_windows(channels, matrices, geometries, within, beam, behind)
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


def derive(
    channels: Channels,
    pose: np.ndarray,
    geometry: ProjectionGeometry,
    ends: np.ndarray,
    end_geometries: ProjectionGeometry | Sequence[ProjectionGeometry],
    *,
    factor: float = 1.0,
    device: str = "cpu",
    behind: Behind = "raise",
    threads: int | None = None,
) -> np.ndarray:
    """Derivatives of one image along small motions of body and camera: of its interpolated samples, not differences.

    All motions together cost little more than the image itself.

    Args:
        channels: Channels that are projected.
        pose: (4, 4), camera_from_ct of the image.
        geometry: Camera of the image.
        ends: (2 K, 4, 4), where each motion leads, then where it comes from, with the pose between them.
        end_geometries: Camera there, one for all or one each.
        factor: Factor of the derivatives.
        device: Device that renders.
        behind: Answer to a pose that puts occupied voxels at or behind the source, as in `render`.
        threads: Number of threads, as in `render`.

    Returns:
        (K, C, rows, columns), float32, change of the values over each motion, at its rate in the pose.

    Raises:
        GeometryError: A matrix is not that of a rigid motion, or the pose puts occupied voxels behind the source.
    """
    matrices, ends = stack_poses(pose[None]), stack_poses(ends)
    within = window(None, geometry)
    channels = channels.with_two_voxels()
    views = set_up_rays(channels.grid, matrices, [geometry])
    windows = _find_windows(channels, matrices, [geometry], within, "perspective", behind)
    moved = set_up_rays(channels.grid, ends, repeat_geometry(end_geometries, len(ends)))
    tangents = factor * (moved[: len(moved) // 2] - moved[len(moved) // 2 :])
    if device != "cpu":
        from bmdkit.drr import cuda

        return cuda.derive(cuda.upload(channels, device), views, tangents, windows, within).cpu().numpy()
    images = np.zeros((len(tangents), len(channels), *within[2:]), np.float32)
    march = cpu_gradient.derive if (threads or cpu.threads()) == 1 else cpu_gradient.derive_threaded
    march(channels.arrays, channels.occupied, channels.box, views[0], tangents, windows[0], 0, 0, images)
    return images


def _find_windows(
    channels: Channels,
    matrices: np.ndarray,
    geometries: Sequence[ProjectionGeometry],
    within: Roi,
    beam: Beam,
    behind: Behind,
) -> np.ndarray:
    """Rows and columns (P, 4) of the images that can be reached; none of a pose behind the source, or an error."""
    windows, hidden = find_footprints(channels.grid, channels.box, matrices, geometries, within, beam)
    if hidden.any():
        if behind == "raise":
            at = np.flatnonzero(hidden).tolist()
            raise GeometryError(f"poses: expected every occupied voxel in front of the source, not so at {at}")
        windows[hidden] = 0
    return windows


def _channels_of(volume: Volume | Channels, labels: LabelMap | None, structures: Sequence[Sequence[str]]) -> Channels:
    """The channels to project; of a whole volume, what is below zero counts as nothing."""
    if isinstance(volume, Channels):
        if labels is not None or structures:
            raise ValueError("labels, structures: expected none beside channels, which are cut already")
        return volume
    require_type("volume", volume, Volume)
    if volume.quantity not in ("density_mg_cm3", "attenuation_per_mm"):
        raise ValueError(
            f"volume: expected density_mg_cm3 or attenuation_per_mm, got {volume.quantity}; "
            "`calibrate(volume).apply(volume)` turns HU into a density"
        )
    if labels is None:
        if structures:
            raise ValueError("structures: expected a label map in `labels`, got none")
        return prepare_channels(Volume(np.maximum(volume.array, 0), volume.grid, volume.quantity))
    return prepare_channels(volume, labels, structures)


def _standard_pose(
    channels: Channels, view: View, geometry: ProjectionGeometry | Sequence[ProjectionGeometry]
) -> RigidTransform:
    middle = channels.grid.points(channels.box[:, ::-1].mean(axis=0))
    return standard_view(view, middle, repeat_geometry(geometry, 1)[0])


def _supersample(
    channels: Channels,
    poses: Sequence[RigidTransform] | np.ndarray,
    geometry: ProjectionGeometry | Sequence[ProjectionGeometry],
    roi: Roi | None,
    factor: int,
    options: _Options,
) -> np.ndarray:
    """Pose by pose, so that only one fine image is held at a time."""
    matrices = stack_poses(poses)
    geometries = repeat_geometry(geometry, len(matrices))
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
