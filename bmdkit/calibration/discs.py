"""Uniform discs in an image: the cross-sections of rods, found by the votes of their edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_SMOOTHING_PIXELS = 1.0
_LEAST_EDGE_HU_PER_PIXEL = 5.0
_LEAST_VOTES = 0.4  # share of a circle's edge that points at its centre
_MOST_SPREAD_HU = 45.0  # standard deviation within a rod's core, on a summary of several slices
_MOST_DISCS = 48
_REACH_PIXELS = 2  # votes this close to a centre count for it


@dataclass(frozen=True)
class Disc:
    """One disc.

    Attributes:
        row, column: Place of its centre, pixels.
        radius: Radius, pixels.
        votes: Share of its edge that was seen, about 0 to 1.
        hu: Mean of its core.
    """

    row: float
    column: float
    radius: float
    votes: float
    hu: float


def find_discs(image: np.ndarray, radii: tuple[float, float]) -> list[Disc]:
    """Find discs that are brighter or darker than what surrounds them, and uniform inside.

    Every edge pixel votes for the points at one radius along its gradient, to either side; a disc's centre gathers the
    votes of its whole circumference, a straight edge spreads them.

    Args:
        image: (rows, columns), HU, square pixels.
        radii: Smallest and largest, pixels.

    Returns:
        The best first.
    """
    smooth = ndimage.gaussian_filter(image.astype(np.float32, copy=False), _SMOOTHING_PIXELS)
    rows, columns, down, across = _edges(smooth)
    found: list[Disc] = []
    shape = image.shape
    steps = np.arange(radii[0], radii[1] + 0.5)
    for sign in (1, -1):
        best = np.zeros(shape, np.float32)
        best_radius = np.zeros(shape, np.float32)
        for radius in steps:
            r = np.rint(rows + sign * radius * down).astype(int)
            c = np.rint(columns + sign * radius * across).astype(int)
            valid = (r >= 0) & (r < shape[0]) & (c >= 0) & (c < shape[1])
            count = np.bincount(r[valid] * shape[1] + c[valid], minlength=image.size).reshape(shape).astype(np.float32)
            votes = ndimage.uniform_filter(count, 2 * _REACH_PIXELS + 1) * (2 * _REACH_PIXELS + 1) ** 2
            votes /= 2 * np.pi * radius
            better = votes > best
            best[better] = votes[better]
            best_radius[better] = radius
        best = ndimage.gaussian_filter(best, 0.7)
        peak = (best == ndimage.maximum_filter(best, size=2 * int(radii[0]) - 1)) & (best > _LEAST_VOTES)
        for row, column in np.argwhere(peak):
            disc = _measured(image, best, int(row), int(column), float(best_radius[row, column]))
            if disc is not None:
                found.append(disc)
    return sorted(found, key=lambda disc: -disc.votes)[:_MOST_DISCS]


def make_disc_points(radius: float, step: float = 1.0) -> np.ndarray:
    """(n, 2), evenly spaced offsets (row, column) within a radius of zero."""
    reach = np.arange(-np.floor(radius / step), np.floor(radius / step) + 1) * step
    grid = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid[(grid**2).sum(axis=1) <= radius**2 + 1e-9]


def _edges(smooth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places of ridge pixels of the gradient, and the gradient's unit vector (towards brighter) there."""
    down, across = np.gradient(smooth)
    size = np.hypot(down, across)
    rows, columns = np.nonzero(size > _LEAST_EDGE_HU_PER_PIXEL)
    length = size[rows, columns]
    down, across = down[rows, columns] / length, across[rows, columns] / length
    ahead = ndimage.map_coordinates(size, [rows + down, columns + across], order=1, mode="nearest")
    behind = ndimage.map_coordinates(size, [rows - down, columns - across], order=1, mode="nearest")
    ridge = (length >= ahead) & (length > behind)
    return rows[ridge], columns[ridge], down[ridge], across[ridge]


def _measured(image: np.ndarray, votes: np.ndarray, row: int, column: int, radius: float) -> Disc | None:
    """The disc at a peak of the votes, its centre refined; None if its core is not uniform."""
    window = votes[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
    weight = np.maximum(window - 0.7 * votes[row, column], 0)
    r, c = np.mgrid[: window.shape[0], : window.shape[1]]
    r, c = r + max(row - 2, 0), c + max(column - 2, 0)
    centre = float((weight * r).sum() / weight.sum()), float((weight * c).sum() / weight.sum())
    core = np.array(centre) + make_disc_points(0.6 * radius)
    index = np.rint(core).astype(int)
    if (index < 0).any() or (index >= image.shape).any():
        return None
    values = image[tuple(index.T)]
    if values.std() > _MOST_SPREAD_HU:
        return None
    return Disc(*centre, radius, float(votes[row, column]), float(values.mean()))
