"""A bone's mask as a smooth shape: its surface, its sections and what lies inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes

from bmdkit.core.anatomy import Side
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, bounding_box, keep_largest_component
from bmdkit.errors import CaseError

_SMOOTHING_MM = 0.7


@dataclass(frozen=True, eq=False)
class Shape:
    """The smoothed occupancy of one bone; everything it takes and gives is LPS mm, mirrored in x for a right bone.

    Attributes:
        occupancy: [slice, row, column] float32, 1 inside, 0 outside, one voxel wider than the mask on every side.
        grid: Grid of the occupancy, in true LPS.
        mirror: (3,), multiplies LPS points: (-1, 1, 1) for a right bone.
        surface_mm: (n, 3), points of its surface.
        bottom_mm: The lowest level at which the bone is seen.
    """

    occupancy: np.ndarray
    grid: Grid
    mirror: np.ndarray
    surface_mm: np.ndarray
    bottom_mm: float

    @classmethod
    def of_femur(cls, labels: LabelMap, side: Side) -> Shape:
        """From the largest connected part of a femur in a label map.

        Raises:
            CaseError: BMD-LMK-001, the femur has no voxel.
        """
        mask = labels.mask(f"femur_{side}")
        if not mask.any():
            raise CaseError("BMD-LMK-001", f"femur_{side} has no voxel.")
        box = bounding_box(mask)
        return cls.of(keep_largest_component(mask[box]), labels.grid.crop(box), mirrored=side == "R")

    @classmethod
    def of(cls, mask: np.ndarray, grid: Grid, *, mirrored: bool) -> Shape:
        """From a mask that fills its grid from face to face."""
        slices, rows, columns = grid.shape
        origin = grid.points(np.array([-2, -2, -2]))
        wide = Grid((slices + 4, rows + 4, columns + 4), grid.spacing_mm, origin, grid.direction)
        occupancy = ndimage.gaussian_filter(
            np.pad(mask.astype(np.float32), 2), _SMOOTHING_MM / grid.spacing_mm[::-1], truncate=2.5
        )
        vertices = marching_cubes(occupancy, 0.5)[0]
        mirror = np.array([-1.0, 1.0, 1.0] if mirrored else [1.0, 1.0, 1.0])
        inside = np.argwhere(mask)
        z = grid.points(inside)[:, 2]
        return cls(occupancy, wide, mirror, wide.points(vertices) * mirror, float(z.min()))

    def to_lps(self, point_mm: np.ndarray) -> np.ndarray:
        """True LPS of a point."""
        return np.asarray(point_mm) * self.mirror

    def inside(self, points_mm: np.ndarray) -> np.ndarray:
        """Occupancy, linearly interpolated, at points (..., 3)."""
        index = np.moveaxis(self.grid.indices(np.asarray(points_mm) * self.mirror), -1, 0)
        return ndimage.map_coordinates(self.occupancy, index, order=1, mode="constant", cval=0.0)

    def level_centre(self, z_mm: float) -> np.ndarray | None:
        """(3,), middle of the filled section at one level; None where there is no bone."""
        corners = self.grid.corners() * self.mirror
        low, high = corners.min(axis=0), corners.max(axis=0)
        if not self.bottom_mm - 0.5 <= z_mm <= high[2]:
            return None
        x, y = np.arange(low[0], high[0], 1.0), np.arange(low[1], high[1], 1.0)
        points = np.stack(np.broadcast_arrays(x[None, :], y[:, None], float(z_mm)), axis=-1)
        section = ndimage.binary_fill_holes(self.inside(points) > 0.5)
        parts, count = ndimage.label(section)
        if not count:
            return None
        largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
        return points[largest].mean(axis=0)
