"""Joseph's method on the CPU."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(parallel=True, cache=True, nogil=True)
def march(volume, views, row0, column0, images):
    """Integrate along every ray of every view, one row of pixels at a time."""
    channels, nz, ny, nx = volume.shape
    poses, _, rows, columns = images.shape
    for job in numba.prange(poses * rows):
        p = job // rows
        r = job % rows
        a = views[p]
        v = float(r + row0)
        o = np.empty(3)
        d = np.empty(3)
        m = np.empty(3)
        total = np.empty(channels)
        size = (nx, ny, nz)
        for c in range(columns):
            u = float(c + column0)
            for i in range(3):
                o[i] = a[i] + u * a[3 + i] + v * a[6 + i]
                d[i] = a[9 + i] + u * a[12 + i] + v * a[15 + i]
                m[i] = a[18 + i] + u * a[21 + i] + v * a[24 + i]
            axis = 0
            if abs(d[1]) > abs(d[axis]):
                axis = 1
            if abs(d[2]) > abs(d[axis]):
                axis = 2
            step = math.sqrt(m[0] * m[0] + m[1] * m[1] + m[2] * m[2]) / abs(d[axis])
            total[:] = 0.0
            p1 = (axis + 1) % 3
            p2 = (axis + 2) % 3
            s1 = d[p1] / d[axis]
            s2 = d[p2] / d[axis]
            index = np.zeros(3, np.int64)
            for k in range(size[axis]):
                x = o[p1] + (k - o[axis]) * s1
                y = o[p2] + (k - o[axis]) * s2
                if x <= -1 or y <= -1 or x >= size[p1] or y >= size[p2]:
                    continue
                i = math.floor(x)
                j = math.floor(y)
                fx = x - i
                fy = y - j
                index[axis] = k
                for di in range(2):
                    for dj in range(2):
                        if 0 <= i + di < size[p1] and 0 <= j + dj < size[p2]:
                            index[p1] = i + di
                            index[p2] = j + dj
                            w = (fx if di else 1 - fx) * (fy if dj else 1 - fy)
                            for channel in range(channels):
                                total[channel] += w * volume[channel, index[2], index[1], index[0]]
            for channel in range(channels):
                images[p, channel, r, c] = np.float32(total[channel] * step)
