"""Joseph's method on the CPU: packets of rays through the occupied bricks of a volume."""

from __future__ import annotations

import math

import numba
import numpy as np

from bmdkit.drr import packet
from bmdkit.drr.channels import BRICK

LANES = packet.LANES
_WIDTH = 4  # a packet is 4 rows by 4 columns: rays that stay together in the volume
_BAND = 16
_SLACK = 0.01  # voxels; float32 coordinates of a few thousand voxels are off by less

_njit = numba.njit(cache=True, nogil=True, error_model="numpy")


def threads() -> int:
    """How many threads a parallel march would take."""
    return numba.get_num_threads()


@_njit
def _set_up(
    view: np.ndarray, row: int, column: int, directions: np.ndarray, steps: np.ndarray, axes: np.ndarray
) -> tuple[int, int, int]:
    """Directions, lengths and main axes of one packet's rays; returns how many lanes have each main axis."""
    for lane in range(LANES):
        u = float(column + lane % _WIDTH)
        v = float(row + lane // _WIDTH)
        along = view[18] + u * view[21] + v * view[24]
        across = view[19] + u * view[22] + v * view[25]
        ahead = view[20] + u * view[23] + v * view[26]
        for i in range(3):
            directions[i, lane] = view[9 + i] + u * view[12 + i] + v * view[15 + i]
        x, y, z = abs(directions[0, lane]), abs(directions[1, lane]), abs(directions[2, lane])
        axes[lane] = 0 if x >= y and x >= z else 1 if y >= z else 2
        steps[lane] = math.sqrt(along * along + across * across + ahead * ahead) / max(x, max(y, z))
    used = (0, 0, 0)
    for lane in range(LANES):
        axis = axes[lane]
        used = (used[0] + (axis == 0), used[1] + (axis == 1), used[2] + (axis == 2))
    return used


@_njit
def _aim(
    view: np.ndarray,
    row: int,
    column: int,
    directions: np.ndarray,
    axes: np.ndarray,
    axis: int,
    x: int,
    y: int,
    rays: np.ndarray,
) -> None:
    """Where the rays cross plane 0 of the main axis, and how far they move per plane; other lanes copy one of its."""
    source = 0
    while axes[source] != axis:
        source += 1
    for lane in range(LANES):
        if axes[lane] == axis:
            source = lane
        u = float(column + source % _WIDTH)
        v = float(row + source // _WIDTH)
        slope_x = directions[x, source] / directions[axis, source]
        slope_y = directions[y, source] / directions[axis, source]
        k = view[axis] + u * view[3 + axis] + v * view[6 + axis]
        rays[0, lane] = view[x] + u * view[3 + x] + v * view[6 + x] - k * slope_x
        rays[1, lane] = slope_x
        rays[2, lane] = view[y] + u * view[3 + y] + v * view[6 + y] - k * slope_y
        rays[3, lane] = slope_y


@_njit
def _reach(
    rays: np.ndarray, offset: int, first: np.float32, last: np.float32, mixed: bool
) -> tuple[np.float32, np.float32]:
    """Least and largest coordinate (row `offset` of rays) of a packet between two planes; its corner rays bound it."""
    low, high = np.float32(1e30), np.float32(-1e30)
    lane = 0
    while lane < LANES:
        a = rays[offset, lane] + first * rays[offset + 1, lane]
        b = rays[offset, lane] + last * rays[offset + 1, lane]
        low, high = min(low, min(a, b)), max(high, max(a, b))
        lane += 1 if mixed else LANES - 2 * _WIDTH + 1 if lane == _WIDTH - 1 else _WIDTH - 1
    return low, high


@_njit
def _occupied(bricks: np.ndarray, start: int, step_x: int, step_y: int, x0: int, x1: int, y0: int, y1: int) -> bool:
    """Whether any brick of a rectangle is."""
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            if bricks[start + x * step_x + y * step_y]:
                return True
    return False


@_njit
def _traverse(
    volume: np.ndarray,
    shape: tuple[int, int, int],
    bricks: np.ndarray,
    counts: tuple[int, int, int],
    box: np.ndarray,
    axis: int,
    rays: np.ndarray,
    mixed: bool,
    sums: np.ndarray,
    with_gradient: bool,
) -> None:
    """Add every sample of a packet to its sums (C, 1 or SUMS, LANES), by bricks along the main axis."""
    steps, brick_steps = (1, shape[0], shape[0] * shape[1]), (1, counts[0], counts[0] * counts[1])
    x, y = (1, 2) if axis == 0 else (0, 2) if axis == 1 else (0, 1)
    last_x, last_y = shape[x] - 1, shape[y] - 1
    voxels, total = shape[0] * shape[1] * shape[2], counts[0] * counts[1] * counts[2]
    for layer in range(box[0, axis] // BRICK, box[1, axis] // BRICK + 1):
        first = layer * BRICK
        stop = min(first + BRICK, shape[axis])
        low_x, high_x = _reach(rays, 0, np.float32(first), np.float32(stop - 1), mixed)
        low_y, high_y = _reach(rays, 2, np.float32(first), np.float32(stop - 1), mixed)
        if high_x <= -1 or high_y <= -1 or low_x >= shape[x] or low_y >= shape[y]:
            continue
        x0, x1 = max(int(low_x - _SLACK), 0) // BRICK, min(int(high_x + _SLACK), last_x) // BRICK
        y0, y1 = max(int(low_y - _SLACK), 0) // BRICK, min(int(high_y + _SLACK), last_y) // BRICK
        inner = low_x > _SLACK and low_y > _SLACK and high_x < last_x - _SLACK and high_y < last_y - _SLACK
        for channel in range(sums.shape[0]):
            brick = channel * total + layer * brick_steps[axis]
            if not _occupied(bricks, brick, brick_steps[x], brick_steps[y], x0, x1, y0, y1):
                continue
            start = channel * voxels
            into = sums[channel]
            if with_gradient:
                if x == 0:
                    packet.gradient_x(volume, start, steps[axis], 1, steps[y], last_x, last_y, first, stop, rays, into)
                else:
                    packet.gradient(
                        volume, start, steps[axis], steps[x], steps[y], last_x, last_y, first, stop, rays, into
                    )
            elif x == 0:
                if inner:
                    packet.inside_x(volume, start, steps[axis], 1, steps[y], last_x, last_y, first, stop, rays, into)
                else:
                    packet.border_x(volume, start, steps[axis], 1, steps[y], last_x, last_y, first, stop, rays, into)
            elif inner:
                packet.inside(volume, start, steps[axis], steps[x], steps[y], last_x, last_y, first, stop, rays, into)
            else:
                packet.border(volume, start, steps[axis], steps[x], steps[y], last_x, last_y, first, stop, rays, into)


@_njit
def _band(
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    view: np.ndarray,
    window: tuple[int, int, int, int],
    row0: int,
    column0: int,
    image: np.ndarray,
) -> None:
    """Rows window[0] .. window[1] - 1 and columns window[2] .. window[3] - 1 of one image (C, rows, columns)."""
    flat, bricks = volume.reshape(-1), occupied.reshape(-1)
    size = (volume.shape[3], volume.shape[2], volume.shape[1])
    counts = (occupied.shape[3], occupied.shape[2], occupied.shape[1])
    channels = image.shape[0]
    directions, steps, axes = np.empty((3, LANES)), np.empty(LANES), np.empty(LANES, np.int64)
    rays, sums = np.empty((4, LANES), np.float32), np.empty((channels, 1, LANES), np.float32)
    for column in range(window[2], window[3], _WIDTH):
        for row in range(window[0], window[1], LANES // _WIDTH):
            used = _set_up(view, row + row0, column + column0, directions, steps, axes)
            for axis in range(3):
                if used[axis] == 0:
                    continue
                x, y = _others(axis)
                _aim(view, row + row0, column + column0, directions, axes, axis, x, y, rays)
                sums[:] = 0
                _traverse(flat, size, bricks, counts, box, axis, rays, used[axis] < LANES, sums, False)
                for lane in range(LANES):
                    r, c = row + lane // _WIDTH, column + lane % _WIDTH
                    if axes[lane] == axis and r < window[1] and c < window[3]:
                        for channel in range(channels):
                            image[channel, r, c] = sums[channel, 0, lane] * np.float32(steps[lane])


@_njit
def _others(axis: int) -> tuple[int, int]:
    return (1, 2) if axis == 0 else (0, 2) if axis == 1 else (0, 1)


@_njit
def _job(
    job: int,
    bands: int,
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    views: np.ndarray,
    windows: np.ndarray,
    row0: int,
    column0: int,
    images: np.ndarray,
) -> None:
    """One band of one image."""
    pose, band = job // bands, job % bands
    top, bottom, left, right = windows[pose]
    first, stop = max(top, band * _BAND), min(bottom, (band + 1) * _BAND)
    if first < stop and left < right:
        _band(volume, occupied, box, views[pose], (first, stop, left, right), row0, column0, images[pose])


@_njit
def march(
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    views: np.ndarray,
    windows: np.ndarray,
    row0: int,
    column0: int,
    images: np.ndarray,
) -> None:
    """Fill the images (P, C, rows, columns), on one thread.

    Args:
        volume: (C, Z, Y, X), float32, at least 2 voxels along each axis.
        occupied: (C, ...), uint8, its bricks.
        box: (2, 3), `Channels.box`.
        views: (P, 27), from `rays.set_up_rays`.
        windows: (P, 4), int64: rows and columns (first, stop) of the image that the box can reach.
        row0: Detector row of the image's first pixel.
        column0: Detector column of the image's first pixel.
        images: (P, C, rows, columns), float32, zeros.
    """
    bands = -(-images.shape[2] // _BAND)
    for job in range(len(views) * bands):
        _job(job, bands, volume, occupied, box, views, windows, row0, column0, images)


@numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def march_threaded(
    volume: np.ndarray,
    occupied: np.ndarray,
    box: np.ndarray,
    views: np.ndarray,
    windows: np.ndarray,
    row0: int,
    column0: int,
    images: np.ndarray,
) -> None:
    """As `march`, on all of numba's threads; the same bits."""
    bands = -(-images.shape[2] // _BAND)
    for job in numba.prange(len(views) * bands):
        _job(job, bands, volume, occupied, box, views, windows, row0, column0, images)
