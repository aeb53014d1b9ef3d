"""Derivatives of the march on the CPU: by the rays, along motions of these, and by the volume."""

from __future__ import annotations

import math

import numba
import numpy as np

from bmdkit.drr.channels import BRICK
from bmdkit.drr.cpu import _BAND, _WIDTH, LANES, _aim, _njit, _others, _set_up, _traverse
from bmdkit.drr.packet import SUMS


@_njit
def views_gradient(
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    views: np.ndarray,
    windows: np.ndarray,
    row0: int,
    column0: int,
    weights: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Add to `gradient` (P, 27) the derivatives of sum(weights * images) by `views`.

    Arguments as in `cpu.march`; weights are (P, C, rows, columns), float32. The sums run in a fixed order, in float64.
    """
    for pose in range(len(views)):
        _view_gradient(volume, occupied, box, views[pose], windows[pose], row0, column0, weights[pose], gradient[pose])


@_njit
def _view_gradient(
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    view: np.ndarray,
    window: np.ndarray,
    row0: int,
    column0: int,
    weights: np.ndarray,
    gradient: np.ndarray,
) -> None:
    flat, bricks = volume.reshape(-1), occupied.reshape(-1)
    size = (volume.shape[3], volume.shape[2], volume.shape[1])
    counts = (occupied.shape[3], occupied.shape[2], occupied.shape[1])
    channels = weights.shape[0]
    directions, steps, axes = np.empty((3, LANES)), np.empty(LANES), np.empty(LANES, np.int64)
    rays, sums = np.empty((4, LANES), np.float32), np.empty((channels, SUMS, LANES), np.float32)
    total, partials, moments = np.empty(SUMS), np.empty(9), np.empty(27)
    for column in range(window[2], window[3], _WIDTH):
        for row in range(window[0], window[1], LANES // _WIDTH):
            used = _set_up(view, row + row0, column + column0, directions, steps, axes)
            for axis in range(3):
                if used[axis] == 0:
                    continue
                x, y = _others(axis)
                _aim(view, row + row0, column + column0, directions, axes, axis, x, y, rays)
                sums[:] = 0
                _traverse(flat, size, bricks, counts, box, axis, rays, used[axis] < LANES, sums, True)
                for lane in range(LANES):
                    r, c = row + lane // _WIDTH, column + lane % _WIDTH
                    if axes[lane] != axis or r >= window[1] or c >= window[3]:
                        continue
                    total[:] = 0
                    for channel in range(channels):
                        for n in range(SUMS):
                            total[n] += float(weights[channel, r, c]) * float(sums[channel, n, lane])
                    u, v = float(c + column0), float(r + row0)
                    _find_partials(view, u, v, axis, directions[:, lane], steps[lane], total, partials)
                    _set_moments(u, v, partials, moments)
                    gradient += moments


@_njit
def _find_partials(
    view: np.ndarray,
    u: float,
    v: float,
    axis: int,
    direction: np.ndarray,
    step: float,
    total: np.ndarray,
    partials: np.ndarray,
) -> None:
    """Fill in the derivatives (9,) of one ray's value by its origin, its direction, and its direction in mm."""
    x, y = _others(axis)
    ahead = direction[axis]
    slope_x, slope_y = direction[x] / ahead, direction[y] / ahead
    k = view[axis] + u * view[3 + axis] + v * view[6 + axis]
    far_x, far_y = total[3] - k * total[1], total[4] - k * total[2]
    partials[x], partials[y] = step * total[1], step * total[2]
    partials[axis] = -step * (total[1] * slope_x + total[2] * slope_y)
    partials[3 + x], partials[3 + y] = step * far_x / ahead, step * far_y / ahead
    partials[3 + axis] = -step * (far_x * slope_x + far_y * slope_y + total[0]) / ahead
    for i in range(3):
        along = view[18 + i] + u * view[21 + i] + v * view[24 + i]
        partials[6 + i] = total[0] * along / (step * ahead * ahead)


@_njit
def _set_moments(u: float, v: float, partials: np.ndarray, moments: np.ndarray) -> None:
    """Fill in the derivatives (27,) of one ray's value by its view."""
    for n in range(9):
        start = 9 * (n // 3) + n % 3
        moments[start] = partials[n]
        moments[start + 3] = u * partials[n]
        moments[start + 6] = v * partials[n]


@_njit
def _derive_band(
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    view: np.ndarray,
    tangents: np.ndarray,
    window: tuple[int, int, int, int],
    row0: int,
    column0: int,
    images: np.ndarray,
) -> None:
    """Rows window[0] .. window[1] - 1 and columns window[2] .. window[3] - 1 of derivatives (K, C, rows, columns)."""
    flat, bricks = volume.reshape(-1), occupied.reshape(-1)
    size = (volume.shape[3], volume.shape[2], volume.shape[1])
    counts = (occupied.shape[3], occupied.shape[2], occupied.shape[1])
    channels = images.shape[1]
    directions, steps, axes = np.empty((3, LANES)), np.empty(LANES), np.empty(LANES, np.int64)
    rays, sums = np.empty((4, LANES), np.float32), np.empty((channels, SUMS, LANES), np.float32)
    total, partials = np.empty(SUMS), np.empty(9)
    moments, values = np.zeros((27, LANES)), np.empty(LANES)
    for column in range(window[2], window[3], _WIDTH):
        for row in range(window[0], window[1], LANES // _WIDTH):
            used = _set_up(view, row + row0, column + column0, directions, steps, axes)
            for axis in range(3):
                if used[axis] == 0:
                    continue
                x, y = _others(axis)
                _aim(view, row + row0, column + column0, directions, axes, axis, x, y, rays)
                sums[:] = 0
                _traverse(flat, size, bricks, counts, box, axis, rays, used[axis] < LANES, sums, True)
                for channel in range(channels):
                    if not sums[channel].any():
                        continue
                    for lane in range(LANES):
                        if axes[lane] == axis:
                            u, v = float(column + lane % _WIDTH + column0), float(row + lane // _WIDTH + row0)
                            total[:] = sums[channel, :, lane]
                            _find_partials(view, u, v, axis, directions[:, lane], steps[lane], total, partials)
                            _set_moments(u, v, partials, moments[:, lane])
                    for motion in range(len(tangents)):
                        values[:] = 0
                        for n in range(27):
                            along = tangents[motion, n]
                            for lane in range(LANES):
                                values[lane] += along * moments[n, lane]
                        for lane in range(LANES):
                            r, c = row + lane // _WIDTH, column + lane % _WIDTH
                            if axes[lane] == axis and r < window[1] and c < window[3]:
                                images[motion, channel, r, c] = values[lane]


@_njit
def _derive_job(
    job: int,
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    view: np.ndarray,
    tangents: np.ndarray,
    window: np.ndarray,
    row0: int,
    column0: int,
    images: np.ndarray,
) -> None:
    """One band of all derivatives."""
    top, bottom, left, right = window
    first, stop = max(top, job * _BAND), min(bottom, (job + 1) * _BAND)
    if first < stop and left < right:
        _derive_band(volume, occupied, box, view, tangents, (first, stop, left, right), row0, column0, images)


@_njit
def derive(
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    view: np.ndarray,
    tangents: np.ndarray,
    window: np.ndarray,
    row0: int,
    column0: int,
    images: np.ndarray,
) -> None:
    """Fill the derivatives of one image along motions of its rays, on one thread.

    Args:
        volume: (C, Z, Y, X), float32, at least 2 voxels along each axis.
        occupied: (C, ...), uint8, its bricks.
        box: (2, 3), `Channels.box`.
        view: (27,), from `rays.set_up_rays`.
        tangents: (K, 27), how the view changes along each motion.
        window: (4,), int64: rows and columns (first, stop) of the image that the box can reach.
        row0: Detector row of the image's first pixel.
        column0: Detector column of the image's first pixel.
        images: (K, C, rows, columns), float32, zeros.
    """
    for job in range(-(-images.shape[2] // _BAND)):
        _derive_job(job, volume, occupied, box, view, tangents, window, row0, column0, images)


@numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def derive_threaded(
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    view: np.ndarray,
    tangents: np.ndarray,
    window: np.ndarray,
    row0: int,
    column0: int,
    images: np.ndarray,
) -> None:
    """As `derive`, on all of numba's threads; the same bits."""
    for job in numba.prange(-(-images.shape[2] // _BAND)):
        _derive_job(job, volume, occupied, box, view, tangents, window, row0, column0, images)


@_njit
def _ray_table(
    size: tuple[int, int, int],
    views: np.ndarray,
    windows: np.ndarray,
    row0: int,
    column0: int,
    axes: np.ndarray,
    rays: np.ndarray,
    steps: np.ndarray,
) -> None:
    """Main axis, float32 crossings and step of every pixel's ray; axis -1 where the box is not reached."""
    for pose in range(len(views)):
        a = views[pose]
        for r in range(windows[pose, 0], windows[pose, 1]):
            for c in range(windows[pose, 2], windows[pose, 3]):
                u, v = float(c + column0), float(r + row0)
                length = 0.0
                axis, ahead = 0, 0.0
                for i in range(3):
                    length += (a[18 + i] + u * a[21 + i] + v * a[24 + i]) ** 2
                    d = a[9 + i] + u * a[12 + i] + v * a[15 + i]
                    if abs(d) > abs(ahead):
                        axis, ahead = i, d
                k = a[axis] + u * a[3 + axis] + v * a[6 + axis]
                axes[pose, r, c] = axis
                steps[pose, r, c] = math.sqrt(length) / abs(ahead)
                for n, i in enumerate(_others(axis)):
                    slope = (a[9 + i] + u * a[12 + i] + v * a[15 + i]) / ahead
                    rays[pose, r, c, 2 * n] = a[i] + u * a[3 + i] + v * a[6 + i] - k * slope
                    rays[pose, r, c, 2 * n + 1] = slope


@_njit
def _spread(
    axis: int,
    first: int,
    stop: int,
    axes: np.ndarray,
    rays: np.ndarray,
    steps: np.ndarray,
    images: np.ndarray,
    volume: np.ndarray,
) -> None:
    """Add the images' values to the planes first <= k < stop, where the rays of one main axis sample them."""
    channels, nz, ny, nx = volume.shape
    steps_of = (1, nx, nx * ny)
    sizes = (nx, ny, nz)
    x, y = _others(axis)
    flat = volume.reshape(channels, -1)
    for pose in range(axes.shape[0]):
        for r in range(axes.shape[1]):
            for c in range(axes.shape[2]):
                if axes[pose, r, c] != axis:
                    continue
                ray = rays[pose, r, c]
                for k in range(first, stop):
                    at_x = ray[0] + np.float32(k) * ray[1]
                    at_y = ray[2] + np.float32(k) * ray[3]
                    if not (-1 < at_x < sizes[x] and -1 < at_y < sizes[y]):
                        continue
                    i, j = math.floor(at_x), math.floor(at_y)
                    wx, wy = at_x - np.float32(i), at_y - np.float32(j)
                    base = k * steps_of[axis] + i * steps_of[x] + j * steps_of[y]
                    for dj in range(2):
                        for di in range(2):
                            if 0 <= i + di < sizes[x] and 0 <= j + dj < sizes[y]:
                                weight = (wx if di else 1 - wx) * (wy if dj else 1 - wy) * steps[pose, r, c]
                                at = base + di * steps_of[x] + dj * steps_of[y]
                                for channel in range(channels):
                                    flat[channel, at] += np.float32(weight) * images[pose, channel, r, c]


@numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _spread_threaded(
    axis: int, axes: np.ndarray, rays: np.ndarray, steps: np.ndarray, images: np.ndarray, volume: np.ndarray
) -> None:
    """The planes in slabs, each on one thread: nobody else writes there."""
    size = volume.shape[3 - axis]
    for slab in numba.prange(-(-size // BRICK)):
        _spread(axis, slab * BRICK, min(size, slab * BRICK + BRICK), axes, rays, steps, images, volume)


def backproject(
    views: np.ndarray,
    windows: np.ndarray,
    row0: int,
    column0: int,
    images: np.ndarray,
    volume: np.ndarray,
    *,
    threads: int | None = None,
) -> None:
    """Add to `volume` (C, Z, Y, X) the adjoint of the march applied to images (P, C, rows, columns)."""
    poses, _, rows, columns = images.shape
    axes = np.full((poses, rows, columns), -1, np.int8)
    rays, steps = np.empty((poses, rows, columns, 4), np.float32), np.empty((poses, rows, columns), np.float32)
    _, slices, grid_rows, grid_columns = volume.shape
    _ray_table((grid_columns, grid_rows, slices), views, windows, row0, column0, axes, rays, steps)
    for axis in range(3):
        if not (axes == axis).any():
            continue
        if (threads or numba.get_num_threads()) == 1:
            _spread(axis, 0, volume.shape[3 - axis], axes, rays, steps, images, volume)
        else:
            _spread_threaded(axis, axes, rays, steps, images, volume)
