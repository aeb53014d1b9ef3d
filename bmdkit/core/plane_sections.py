"""Flat cuts through a volume in patient axes, whatever the grid's own direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from bmdkit.core.grid import Grid

Orientation = Literal["axial", "coronal", "sagittal"]

ORIENTATIONS: tuple[Orientation, ...] = ("axial", "coronal", "sagittal")

# what points right and down on the screen, in LPS, and the letters at the left, right, upper and lower edge
_AXES = {
    "axial": ((1, 0, 0), (0, 1, 0), "RLAP"),
    "coronal": ((1, 0, 0), (0, 0, -1), "RLSI"),
    "sagittal": ((0, 1, 0), (0, 0, -1), "APSI"),
}


@dataclass(frozen=True, eq=False)
class PlaneSection:
    """A rectangle of pixels in the patient, as a radiologist looks at it: patient left on the right of the screen.

    Attributes:
        orientation: Direction of the cut.
        corner_mm: (3,), LPS of the centre of the upper left pixel.
        rows, columns: Its size.
        pixel_mm: Between pixel centres.
    """

    orientation: Orientation
    corner_mm: np.ndarray
    rows: int
    columns: int
    pixel_mm: float

    @classmethod
    def through(
        cls, orientation: Orientation, point_mm: np.ndarray, low_mm: np.ndarray, high_mm: np.ndarray, pixel_mm: float
    ) -> PlaneSection:
        """The cut through a point over the extent of a box with corners low and high (LPS, mm)."""
        right, down = (np.array(axis, float) for axis in _AXES[orientation][:2])
        low, high = np.asarray(low_mm, float), np.asarray(high_mm, float)
        corner = np.array(point_mm, float)
        for axis in (right, down):
            where = np.flatnonzero(axis)[0]
            corner[where] = low[where] if axis[where] > 0 else high[where]
        size = high - low
        rows, columns = (max(1, round(float(np.abs(axis) @ size) / pixel_mm)) for axis in (down, right))
        return cls(orientation, corner, rows, columns, pixel_mm)

    @property
    def right(self) -> np.ndarray:
        """(3,), LPS."""
        return np.array(_AXES[self.orientation][0], float)

    @property
    def down(self) -> np.ndarray:
        """(3,), LPS."""
        return np.array(_AXES[self.orientation][1], float)

    @property
    def letters(self) -> str:
        """What lies at the left, right, upper and lower edge."""
        return _AXES[self.orientation][2]

    def points(self) -> np.ndarray:
        """(rows, columns, 3), LPS, mm."""
        step = self.pixel_mm
        rows, columns = np.arange(self.rows)[:, None, None], np.arange(self.columns)[None, :, None]
        return self.corner_mm + rows * step * self.down + columns * step * self.right

    def pixels(self, points_mm: np.ndarray) -> np.ndarray:
        """(..., 2): column and row of points (..., 3), dropped perpendicularly onto the plane."""
        away = (np.asarray(points_mm, float) - self.corner_mm) / self.pixel_mm
        return np.stack([away @ self.right, away @ self.down], axis=-1)

    def distance_mm(self, points_mm: np.ndarray) -> np.ndarray:
        """(...,), how far points (..., 3) lie from the plane."""
        return np.abs((np.asarray(points_mm, float) - self.corner_mm) @ np.cross(self.right, self.down))

    def cut(self, array: np.ndarray, grid: Grid, *, order: Literal[0, 1] = 1, fill: float = 0.0) -> np.ndarray:
        """(rows, columns): the array's values there, linear (order 1) or nearest (0); `fill` outside."""
        where = np.moveaxis(grid.indices(self.points()), -1, 0)
        low = np.maximum(np.floor(where.min(axis=(1, 2))).astype(int) - 1, 0)
        high = np.minimum(np.ceil(where.max(axis=(1, 2))).astype(int) + 2, grid.shape)
        if (high <= low).any():
            return np.full((self.rows, self.columns), fill, np.float32)
        part = np.asarray(array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
        part = part.astype(np.float32 if order else part.dtype, copy=False)
        inside = where - low[:, None, None]
        return ndimage.map_coordinates(part, inside, order=order, mode="constant", cval=fill)
