"""Voxels cut into smaller ones, and back to their means."""

from __future__ import annotations

import numpy as np

from bmdkit.core.grid import Grid
from bmdkit.core.volume import bounding_box


def find_box(depth: np.ndarray, grid: Grid) -> tuple[slice, slice, slice]:
    """The box around all voxels that may hold a part of a structure, grown by one voxel.

    Args:
        depth: Depth of the structure at the middles of the voxels, mm.
        grid: Grid of cubic voxels.

    Raises:
        ValueError: There is no such voxel.
    """
    return bounding_box(depth > -float(grid.spacing_mm[0]), 1)


def refine_depth(depth: np.ndarray, grid: Grid, parts: int) -> tuple[np.ndarray, Grid]:
    """Depth at the middles of the parts of each voxel, linearly interpolated, and their grid.

    Beyond the middles of the outermost voxels it is as it is there.

    Args:
        depth: Depth at the middles of the voxels, mm.
        grid: Grid of the voxels, along LPS.
        parts: Number of parts of a voxel along each axis.
    """
    for axis, size in enumerate(depth.shape):
        at = np.clip((np.arange(size * parts) + 0.5) / parts - 0.5, 0, size - 1)
        low = np.minimum(at.astype(int), max(size - 2, 0))
        share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, size - 1)
        depth = np.take(depth, low, axis) * (1 - share) + np.take(depth, high, axis) * share
    first = grid.origin_mm + (0.5 / parts - 0.5) * grid.spacing_mm
    return depth, Grid(depth.shape, grid.spacing_mm / parts, first, grid.direction)


def average_parts(values: np.ndarray, parts: int) -> np.ndarray:
    """Means over blocks of `parts` voxels along each axis, float32; a ragged edge is dropped."""
    if parts == 1:
        return np.asarray(values, np.float32)
    a, b, c = (size // parts for size in values.shape)
    total = np.zeros((a, b, c), np.float32)
    for k, j, i in np.ndindex(parts, parts, parts):  # faster than a mean over three axes at once
        total += values[k : parts * a : parts, j : parts * b : parts, i : parts * c : parts]
    return total / np.float32(parts**3)
