"""Exact line integrals through piecewise-constant voxels: the oracle of the fast kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.drr.channels import Channels
from bmdkit.drr.rays import Beam, geometries_of, pose_matrices, view_rays


def render_exact(
    channels: Channels,
    poses: Sequence[RigidTransform] | np.ndarray,
    geometry: ProjectionGeometry | Sequence[ProjectionGeometry],
    *,
    beam: Beam = "perspective",
) -> np.ndarray:
    """Radiological paths: every voxel is a box of one value, and weighs the length of the ray within it.

    Args:
        channels: What is projected.
        poses: camera_from_ct of every view, (P, 4, 4) or rigid transforms.
        geometry: One for all views or one per view.
        beam: As in `render`.

    Returns:
        (P, C, rows, columns), float64, value times mm; only what lies in front of the source counts.
    Source:
        Siddon 1985, doi 10.1118/1.595715.
    """
    matrices = pose_matrices(poses)
    geometries = geometries_of(geometry, len(matrices))
    views = view_rays(channels.grid, matrices, geometries, beam)
    images = np.zeros((len(matrices), len(channels), *geometries[0].shape))
    _trace(channels.arrays, views, images, 0.0 if beam == "perspective" else -np.inf)
    return images


@numba.njit(cache=True, nogil=True)
def _trace(volume, views, images, nearest):
    channels, nz, ny, nx = volume.shape
    poses, _, rows, columns = images.shape
    size = np.array([nx, ny, nz])
    o, d, m = np.empty(3), np.empty(3), np.empty(3)
    cuts = np.empty(nx + ny + nz + 5)
    for p in range(poses):
        a = views[p]
        for r in range(rows):
            for c in range(columns):
                for i in range(3):
                    o[i] = a[i] + c * a[3 + i] + r * a[6 + i]
                    d[i] = a[9 + i] + c * a[12 + i] + r * a[15 + i]
                    m[i] = a[18 + i] + c * a[21 + i] + r * a[24 + i]
                length = np.sqrt(m[0] * m[0] + m[1] * m[1] + m[2] * m[2])
                enter, leave = nearest, np.inf
                for i in range(3):
                    if d[i] != 0:
                        t0 = (-0.5 - o[i]) / d[i]
                        t1 = (size[i] - 0.5 - o[i]) / d[i]
                        enter = max(enter, min(t0, t1))
                        leave = min(leave, max(t0, t1))
                    elif not -0.5 <= o[i] < size[i] - 0.5:
                        leave = -np.inf
                if not leave > enter:
                    continue
                cuts[0] = enter
                cuts[1] = leave
                count = 2
                for i in range(3):
                    if d[i] != 0:
                        for plane in range(size[i] + 1):
                            t = (plane - 0.5 - o[i]) / d[i]
                            if enter < t < leave:
                                cuts[count] = t
                                count += 1
                cuts[:count].sort()
                for n in range(count - 1):
                    middle = 0.5 * (cuts[n] + cuts[n + 1])
                    x = int(np.floor(o[0] + middle * d[0] + 0.5))
                    y = int(np.floor(o[1] + middle * d[1] + 0.5))
                    z = int(np.floor(o[2] + middle * d[2] + 0.5))
                    if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz:
                        for channel in range(channels):
                            images[p, channel, r, c] += volume[channel, z, y, x] * (cuts[n + 1] - cuts[n]) * length
