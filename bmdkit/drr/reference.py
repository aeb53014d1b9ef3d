"""Exact line integrals through piecewise-constant voxels: the oracle of the fast kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.drr.channels import Channels
from bmdkit.drr.rays import Beam, repeat_geometry, set_up_rays, stack_poses


def render_exact(
    channels: Channels,
    poses: Sequence[RigidTransform] | np.ndarray,
    geometry: ProjectionGeometry | Sequence[ProjectionGeometry],
    *,
    beam: Beam = "perspective",
) -> np.ndarray:
    """Radiological paths: every voxel is a box of one value, and weighs the length of the ray within it.

    Args:
        channels: Channels that are projected.
        poses: camera_from_ct of every view, (P, 4, 4) or rigid transforms.
        geometry: Camera, one for all views or one per view.
        beam: Beam as in `render`.

    Returns:
        (P, C, rows, columns), float64, value times mm; only what lies in front of the source counts.
    Source:
        Siddon 1985, doi 10.1118/1.595715.
    """
    matrices = stack_poses(poses)
    geometries = repeat_geometry(geometry, len(matrices))
    views = set_up_rays(channels.grid, matrices, geometries, beam)
    images = np.zeros((len(matrices), len(channels), *geometries[0].shape))
    wanted = np.ones(images.shape[2:], bool)
    _trace(channels.arrays, views, images, 0.0 if beam == "perspective" else -np.inf, wanted, False)
    return images


def find_hits(
    outline: Channels, pose: RigidTransform, geometry: ProjectionGeometry, wanted: np.ndarray | None = None
) -> np.ndarray:
    """Find the pixels whose ray passes through an occupied voxel of the first channel, each voxel a box.

    The same as `render_exact(...) > 0` of values that are not negative, at less cost: a ray ends at its first hit.

    Args:
        outline: Channel, 0 outside.
        pose: Pose camera_from_ct.
        geometry: Camera.
        wanted: Pixels that are asked for, (rows, columns), bool; all if not given.

    Returns:
        (rows, columns), bool; not hit where nobody asks.
    """
    views = set_up_rays(outline.grid, stack_poses([pose]), repeat_geometry(geometry, 1), "perspective")
    images = np.zeros((1, 1, *geometry.shape))
    wanted = np.ones(geometry.shape, bool) if wanted is None else np.ascontiguousarray(wanted, bool)
    _trace(outline.arrays[:1], views, images, 0.0, wanted, True)
    return images[0, 0] > 0


@numba.njit(cache=True, nogil=True)
def _add_voxel(values: np.ndarray, share: float, length: float, sums: np.ndarray) -> None:
    """Add what a ray gains in one voxel, in every channel."""
    for channel in range(len(values)):
        sums[channel] += values[channel] * share * length


@numba.njit(cache=True, nogil=True)
def _go_on(plane: np.ndarray, crossing: np.ndarray, reached: float, o: np.ndarray, d: np.ndarray) -> None:
    """Take the next plane of each axis beyond what the ray has reached, in place."""
    for i in range(3):
        while crossing[i] <= reached:
            plane[i] += np.sign(d[i])
            crossing[i] = (plane[i] - 0.5 - o[i]) / d[i]


@numba.njit(cache=True, nogil=True)
def _trace(
    volume: np.ndarray, views: np.ndarray, images: np.ndarray, nearest: float, wanted: np.ndarray, to_first: bool
) -> None:
    _, nz, ny, nx = volume.shape
    poses, _, rows, columns = images.shape
    size = (nx, ny, nz)
    o, d, m = np.empty(3), np.empty(3), np.empty(3)
    plane, crossing = np.empty(3), np.empty(3)
    for p in range(poses):
        a = views[p]
        for r in range(rows):
            for c in range(columns):
                if not wanted[r, c]:
                    continue
                enter, leave = nearest, np.inf
                for i in range(3):
                    o[i] = a[i] + c * a[3 + i] + r * a[6 + i]
                    d[i] = a[9 + i] + c * a[12 + i] + r * a[15 + i]
                    m[i] = a[18 + i] + c * a[21 + i] + r * a[24 + i]
                    if d[i] != 0:
                        t0, t1 = (-0.5 - o[i]) / d[i], (size[i] - 0.5 - o[i]) / d[i]
                        enter, leave = max(enter, min(t0, t1)), min(leave, max(t0, t1))
                    elif not -0.5 <= o[i] < size[i] - 0.5:
                        leave = -np.inf
                if not leave > enter:
                    continue
                length = np.sqrt(m[0] * m[0] + m[1] * m[1] + m[2] * m[2])
                for i in range(3):
                    plane[i] = np.floor(o[i] + enter * d[i] + 0.5)
                    crossing[i] = np.inf
                    if d[i] != 0:
                        plane[i] -= np.sign(d[i])  # rounding must not lose a crossing: those behind are passed over
                        crossing[i] = -np.inf
                    while crossing[i] <= enter:
                        plane[i] += np.sign(d[i])
                        crossing[i] = (plane[i] - 0.5 - o[i]) / d[i]
                while enter < leave:
                    reach = min(leave, crossing[0], crossing[1], crossing[2])
                    middle = 0.5 * (enter + reach)
                    x = int(np.floor(o[0] + middle * d[0] + 0.5))
                    y = int(np.floor(o[1] + middle * d[1] + 0.5))
                    z = int(np.floor(o[2] + middle * d[2] + 0.5))
                    if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz:
                        _add_voxel(volume[:, z, y, x], reach - enter, length, images[p, :, r, c])
                        if to_first and images[p, 0, r, c] > 0:
                            break
                    enter = reach
                    _go_on(plane, crossing, enter, o, d)
