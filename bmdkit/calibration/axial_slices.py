"""A CT as a stack of axial slices, whatever the order of its axes, and summaries of blocks of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.grid import Grid, frozen
from bmdkit.core.volume import Volume

_LOWEST_HU, _HIGHEST_HU = -1024, 4000
_SLICES_PER_BLOCK = 9  # a median of more gains little and costs time


@dataclass(frozen=True, eq=False)
class AxialStack:
    """Slices across the patient.

    Attributes:
        array: [slice, row, column], HU, a view of the CT.
        spacing_mm: Between slices, rows and columns.
        grid, axis: The CT's grid, and which of its array axes runs along the patient.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float]
    grid: Grid
    axis: int

    @classmethod
    def of(cls, ct: Volume) -> AxialStack:
        """The axial slices of a CT, a view."""
        axis = 2 - int(np.argmax(np.abs(ct.grid.direction[2])))
        sizes = list(ct.grid.spacing_mm[::-1])
        along = sizes.pop(axis)
        return cls(np.moveaxis(ct.array, axis, 0), (along, *sizes), ct.grid, axis)

    def points(self, indices: np.ndarray) -> np.ndarray:
        """LPS, mm, (..., 3), of fractional indices (slice, row, column)."""
        order = [1, 2]
        order.insert(self.axis, 0)
        return self.grid.points(np.asarray(indices, float)[..., order])

    def indices(self, points_mm: np.ndarray) -> np.ndarray:
        """Fractional indices (slice, row, column) of LPS points, mm."""
        found = self.grid.indices(points_mm)
        rest = [n for n in range(3) if n != self.axis]
        return found[..., [self.axis, *rest]]

    def blocks(self, thickness_mm: float) -> list[tuple[int, int]]:
        """First and last + 1 of runs of slices of about this thickness."""
        count = len(self.array)
        size = int(np.clip(round(thickness_mm / self.spacing_mm[0]), 1, count))
        edges = np.linspace(0, count, max(round(count / size), 1) + 1).round().astype(int)
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))

    def summary(self, first: int, stop: int) -> np.ndarray:
        """Median over a run of slices, (rows, columns) float32, HU within sensible limits."""
        chosen = np.unique(np.linspace(first, stop - 1, min(stop - first, _SLICES_PER_BLOCK)).round().astype(int))
        middle = np.median(self.array[chosen].astype(np.float32, copy=False), axis=0)
        return np.nan_to_num(np.clip(middle, _LOWEST_HU, _HIGHEST_HU), nan=_LOWEST_HU).astype(np.float32, copy=False)


def resample_plane(image: np.ndarray, spacing_mm: tuple[float, float], pixel_mm: float) -> np.ndarray:
    """An image on square pixels; its pixel (0, 0) keeps its centre."""
    scale = pixel_mm / np.asarray(spacing_mm, float)
    shape = np.floor((np.array(image.shape) - 1) / scale).astype(int) + 1
    smoothed = ndimage.gaussian_filter(image, np.maximum(scale - 1, 0) * 0.5)
    return frozen(ndimage.affine_transform(smoothed, scale, output_shape=tuple(shape), order=1, mode="nearest"))
