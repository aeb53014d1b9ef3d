"""A regular grid in patient space: where the voxels of an array lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


def frozen(array: ArrayLike, dtype: DTypeLike | None = None) -> np.ndarray:
    """A read-only view of `array` as a NumPy array, copied only if its type changes."""
    view = np.asarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an array [slice, row, column] lie in the patient, DICOM LPS, mm.

    Attributes:
        shape: Slices, rows, columns.
        spacing_mm: (3,), between voxel centres along i (column index), j (row index), k (slice index).
        origin_mm: (3,), LPS of the centre of voxel (0, 0, 0).
        direction: (3, 3), its columns are the LPS unit vectors of i, j and k.

    Example:
        >>> grid = Grid((10, 20, 30), (0.8, 0.8, 2.0), (-12, 5, 100), np.eye(3))
        >>> grid.points([1, 0, 2])  # slice 1, row 0, column 2
        array([-10.4,   5. , 102. ])
    """

    shape: tuple[int, int, int]
    spacing_mm: np.ndarray
    origin_mm: np.ndarray
    direction: np.ndarray

    def __post_init__(self) -> None:
        """Check that all values are finite, positive where they have to be, and the directions orthonormal."""
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        for name, size in (("spacing_mm", (3,)), ("origin_mm", (3,)), ("direction", (3, 3))):
            value = frozen(np.array(getattr(self, name), dtype=np.float64))
            if value.shape != size or not np.isfinite(value).all():
                raise ValueError(f"{name}: expected finite values of shape {size}, got {getattr(self, name)!r}")
            object.__setattr__(self, name, value)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape: expected three positive numbers, got {self.shape}")
        if (self.spacing_mm <= 0).any():
            raise ValueError(f"spacing_mm: expected positive values, got {self.spacing_mm}")
        if not np.allclose(self.direction.T @ self.direction, np.eye(3), atol=1e-4):
            raise ValueError(f"direction: expected orthonormal columns, got {self.direction.tolist()}")

    def __repr__(self) -> str:
        """Shape, spacing and origin in one line."""
        spacing, origin = format_vector(self.spacing_mm), format_vector(self.origin_mm)
        return f"Grid(shape={self.shape}, spacing_mm={spacing}, origin_mm={origin})"

    def __eq__(self, other: object) -> bool:
        """Whether the shape and all voxel centres are the same."""
        return isinstance(other, Grid) and self.shape == other.shape and self.is_near(other, tolerance_mm=0.0)

    def is_near(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and voxel centres within `tolerance_mm`."""
        return self.shape == other.shape and bool(np.abs(self.corners() - other.corners()).max() <= tolerance_mm)

    @cached_property
    def lps_from_ijk(self) -> np.ndarray:
        """(4, 4), from (column, row, slice) indices to LPS, mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * self.spacing_mm
        matrix[:3, 3] = self.origin_mm
        return frozen(matrix)

    @cached_property
    def ijk_from_lps(self) -> np.ndarray:
        """(4, 4), from LPS, mm, to fractional (column, row, slice) indices."""
        return frozen(np.linalg.inv(self.lps_from_ijk))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, mm3."""
        return float(np.prod(self.spacing_mm))

    def points(self, indices: ArrayLike) -> np.ndarray:
        """LPS points, mm, (..., 3), of array indices (..., 3) in the order slice, row, column."""
        return np.asarray(indices, float)[..., ::-1] @ self.lps_from_ijk[:3, :3].T + self.origin_mm

    def indices(self, points_mm: ArrayLike) -> np.ndarray:
        """Fractional array indices (..., 3), in the order slice, row, column, of LPS points (..., 3), mm."""
        ijk = np.asarray(points_mm, float) @ self.ijk_from_lps[:3, :3].T + self.ijk_from_lps[:3, 3]
        return ijk[..., ::-1]

    def corners(self) -> np.ndarray:
        """(8, 3), LPS of the corner voxels' centres, mm."""
        last = np.array(self.shape) - 1
        return self.points(np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij")).reshape(3, -1).T)

    def centre(self) -> np.ndarray:
        """(3,), LPS of the middle of the grid, mm."""
        return self.points((np.array(self.shape) - 1) / 2)

    def crop(self, box: tuple[slice, slice, slice]) -> Grid:
        """The grid of `array[box]`, for slices of step one."""
        start = np.array([s.indices(n)[0] for s, n in zip(box, self.shape, strict=True)])
        stop = np.array([s.indices(n)[1] for s, n in zip(box, self.shape, strict=True)])
        return Grid(tuple(stop - start), self.spacing_mm, self.points(start), self.direction)

    def with_spacing(self, spacing_mm: float | Iterable[float]) -> Grid:
        """A grid over the same extent (voxel faces) with voxels of about this size (i, j, k), mm."""
        wanted = np.broadcast_to(np.asarray(spacing_mm, float), 3)
        extent = self.spacing_mm * self.shape[::-1]
        count = np.maximum(np.rint(extent / wanted), 1).astype(int)
        spacing = extent / count
        first = np.eye(4)
        first[:3, 3] = (spacing / self.spacing_mm - 1) / 2
        origin = (self.lps_from_ijk @ first)[:3, 3]
        return Grid(tuple(count[::-1]), spacing, origin, self.direction)


def format_vector(values: np.ndarray) -> str:
    """Numbers of a vector for one line of text."""
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
