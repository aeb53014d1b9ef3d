"""Exact line integrals through piecewise-constant voxels: the oracle of the fast kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.drr.channels import BRICK, Channels
from bmdkit.drr.rays import Beam, repeat_geometry, set_up_rays, stack_poses

_DEEPER = 3.0  # voxels below where a ray meets the first, where the next ray is likely to be within
_BORDER = 1e-6  # voxels; coordinates of a few thousand voxels are off by less


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
    _trace(channels.arrays, views, images, 0.0 if beam == "perspective" else -np.inf)
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
    wanted = np.ones(geometry.shape, bool) if wanted is None else np.ascontiguousarray(wanted, bool)
    hits = np.zeros(geometry.shape, bool)
    _find_hits(outline.arrays[0], outline.occupied[0], views[0], wanted, hits)
    return hits


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
def _enter(
    view: np.ndarray, c: int, r: int, size: tuple[int, int, int], nearest: float, o: np.ndarray, d: np.ndarray
) -> tuple[float, float]:
    """Fill in origin and direction of a pixel's ray; where it enters the grid and leaves it, never if that is less."""
    enter, leave = nearest, np.inf
    for i in range(3):
        o[i] = view[i] + c * view[3 + i] + r * view[6 + i]
        d[i] = view[9 + i] + c * view[12 + i] + r * view[15 + i]
        if d[i] != 0:
            t0, t1 = (-0.5 - o[i]) / d[i], (size[i] - 0.5 - o[i]) / d[i]
            enter, leave = max(enter, min(t0, t1)), min(leave, max(t0, t1))
        elif not -0.5 <= o[i] < size[i] - 0.5:
            leave = -np.inf
    return enter, leave


@numba.njit(cache=True, nogil=True)
def _begin(plane: np.ndarray, crossing: np.ndarray, reached: float, o: np.ndarray, d: np.ndarray) -> None:
    """Find the next plane of each axis beyond what the ray has reached."""
    for i in range(3):
        plane[i] = np.floor(o[i] + reached * d[i] + 0.5)
        crossing[i] = np.inf
        if d[i] != 0:
            plane[i] -= np.sign(d[i])  # rounding must not lose a crossing: those behind are passed over
            crossing[i] = -np.inf
    _go_on(plane, crossing, reached, o, d)


@numba.njit(cache=True, nogil=True)
def _trace(volume: np.ndarray, views: np.ndarray, images: np.ndarray, nearest: float) -> None:
    _, nz, ny, nx = volume.shape
    poses, _, rows, columns = images.shape
    size = (nx, ny, nz)
    o, d, m = np.empty(3), np.empty(3), np.empty(3)
    plane, crossing = np.empty(3), np.empty(3)
    for p in range(poses):
        a = views[p]
        for r in range(rows):
            for c in range(columns):
                enter, leave = _enter(a, c, r, size, nearest, o, d)
                if not leave > enter:
                    continue
                for i in range(3):
                    m[i] = a[18 + i] + c * a[21 + i] + r * a[24 + i]
                length = np.sqrt(m[0] * m[0] + m[1] * m[1] + m[2] * m[2])
                _begin(plane, crossing, enter, o, d)
                while enter < leave:
                    reach = min(leave, crossing[0], crossing[1], crossing[2])
                    middle = 0.5 * (enter + reach)
                    x = int(np.floor(o[0] + middle * d[0] + 0.5))
                    y = int(np.floor(o[1] + middle * d[1] + 0.5))
                    z = int(np.floor(o[2] + middle * d[2] + 0.5))
                    if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz:
                        _add_voxel(volume[:, z, y, x], reach - enter, length, images[p, :, r, c])
                    enter = reach
                    _go_on(plane, crossing, enter, o, d)


@numba.njit(cache=True, nogil=True)
def _find_hits(
    volume: np.ndarray, occupied: np.ndarray, view: np.ndarray, wanted: np.ndarray, hits: np.ndarray
) -> None:
    """Set the pixels whose ray passes through a voxel above 0; where the ray before met one is looked at first."""
    nz, ny, nx = volume.shape
    size = (nx, ny, nz)
    o, d, plane, crossing = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for r in range(hits.shape[0]):
        met = np.nan
        for c in range(hits.shape[1]):
            if not wanted[r, c]:
                continue
            enter, leave = _enter(view, c, r, size, 0.0, o, d)
            if not leave > enter:
                continue
            if enter < met < leave and _is_within(volume, met, o, d):
                hits[r, c] = True
                continue
            met = _meet(volume, occupied, enter, leave, o, d, plane, crossing)
            hits[r, c] = met < np.inf
            met += _DEEPER / max(abs(d[0]), abs(d[1]), abs(d[2]))


@numba.njit(cache=True, nogil=True)
def _is_within(volume: np.ndarray, at: float, o: np.ndarray, d: np.ndarray) -> bool:
    """Whether a place along a ray lies in a voxel above 0, and clearly not on its border."""
    x, y, z = o[0] + at * d[0] + 0.5, o[1] + at * d[1] + 0.5, o[2] + at * d[2] + 0.5
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    if not (0 <= i < volume.shape[2] and 0 <= j < volume.shape[1] and 0 <= k < volume.shape[0]):
        return False
    border = min(min(x - i, 1 - (x - i)), min(y - j, 1 - (y - j)), min(z - k, 1 - (z - k)))
    return bool(border > _BORDER and volume[k, j, i] > 0)


@numba.njit(cache=True, nogil=True)
def _meet(
    volume: np.ndarray,
    occupied: np.ndarray,
    enter: float,
    leave: float,
    o: np.ndarray,
    d: np.ndarray,
    plane: np.ndarray,
    crossing: np.ndarray,
) -> float:
    """Where a ray meets the first voxel above 0, infinite where it meets none; bricks without any are passed over.

    A brick is occupied by what lies in the voxels about it too, so that rounding at its border loses nothing.
    """
    nz, ny, nx = volume.shape
    _begin(plane, crossing, enter, o, d)
    while enter < leave:
        reach = min(leave, crossing[0], crossing[1], crossing[2])
        middle, length = 0.5 * (enter + reach), reach - enter
        x = int(np.floor(o[0] + middle * d[0] + 0.5))
        y = int(np.floor(o[1] + middle * d[1] + 0.5))
        z = int(np.floor(o[2] + middle * d[2] + 0.5))
        enter = reach
        if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz:
            bricks = (x // BRICK, y // BRICK, z // BRICK)
            if not occupied[bricks[2], bricks[1], bricks[0]]:
                beyond = leave
                for i in range(3):
                    if d[i] != 0:
                        face = BRICK * (bricks[i] + (1 if d[i] > 0 else 0))
                        beyond = min(beyond, (face - 0.5 - o[i]) / d[i])
                if beyond > enter:
                    enter = beyond
                    _begin(plane, crossing, enter, o, d)
                    continue
            elif volume[z, y, x] > 0 and length > 0:
                return middle
        _go_on(plane, crossing, enter, o, d)
    return np.inf
