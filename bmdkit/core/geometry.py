"""Rigid transforms, and the projection from a point source to a flat detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bmdkit.core.grid import frozen

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class GeometryError(ValueError):
    """A transform or a projection that cannot be: singular, non-finite, or behind the source."""


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """A rotation and a translation, mm; name it target_from_source and compose with @.

    Attributes:
        matrix: (4, 4), float64, read-only.

    Example:
        >>> b_from_a = RigidTransform.from_parts(np.eye(3), (0, 0, 10))
        >>> c_from_b = RigidTransform.from_parts(np.eye(3), (5, 0, 0))
        >>> (c_from_b @ b_from_a).apply([1, 2, 3])
        array([ 6.,  2., 13.])
    """

    matrix: np.ndarray

    def __post_init__(self) -> None:
        """Check that the matrix is a proper rotation and a translation."""
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise GeometryError(f"matrix: expected finite values of shape (4, 4), got {self.matrix!r}")
        turn = matrix[:3, :3]
        if not np.allclose(turn.T @ turn, np.eye(3), atol=1e-5) or np.linalg.det(turn) < 0:
            raise GeometryError(f"matrix: expected a proper rotation, got {turn.tolist()}")
        if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-9):
            raise GeometryError(f"matrix: expected a last row of 0 0 0 1, got {matrix[3].tolist()}")
        object.__setattr__(self, "matrix", frozen(matrix))

    def __repr__(self) -> str:
        """Angle and translation in one line."""
        shift = ", ".join(f"{value:.6g}" for value in self.translation_mm)
        return f"RigidTransform(rotation of {np.degrees(self.angle_rad()):.4g} degrees, translation_mm=({shift}))"

    @classmethod
    def identity(cls) -> RigidTransform:
        """The transform that moves nothing."""
        return cls(np.eye(4))

    @classmethod
    def from_parts(cls, rotation: np.ndarray, translation_mm: np.ndarray) -> RigidTransform:
        """From a (3, 3) rotation and a (3,) translation."""
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = translation_mm
        return cls(matrix)

    @classmethod
    def about(cls, centre_mm: ArrayLike, rotation: np.ndarray, translation_mm: ArrayLike = (0, 0, 0)) -> RigidTransform:
        """A rotation about a point, then a translation: x becomes rotation (x - centre) + centre + translation."""
        centre = np.asarray(centre_mm, float)
        return cls.from_parts(rotation, centre - rotation @ centre + np.asarray(translation_mm, float))

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3), the rotation alone."""
        return self.matrix[:3, :3]

    @property
    def translation_mm(self) -> np.ndarray:
        """(3,), the translation alone, mm."""
        return self.matrix[:3, 3]

    def __matmul__(self, other: RigidTransform) -> RigidTransform:
        """The other transform first, then this one."""
        return RigidTransform(self.matrix @ other.matrix)

    def inverse(self) -> RigidTransform:
        """The transform that undoes this one."""
        return RigidTransform.from_parts(self.rotation.T, -self.rotation.T @ self.translation_mm)

    def apply(self, points_mm: np.ndarray) -> np.ndarray:
        """Map points (..., 3), mm."""
        return np.asarray(points_mm, float) @ self.rotation.T + self.translation_mm

    def angle_rad(self) -> float:
        """The angle of its rotation, in [0, pi]."""
        return float(np.arccos(np.clip((np.trace(self.rotation) - 1) / 2, -1.0, 1.0)))


@dataclass(frozen=True, eq=False)
class ProjectionGeometry:
    """Point source and flat detector.

    Camera: origin at the source, +x along columns, +y along rows, +z to the detector.
    Pixel centres lie at integer (u, v) = (column, row).

    Attributes:
        sdd_mm: Source to detector distance, DICOM (0018,1110).
        column_spacing_mm, row_spacing_mm: Between columns and between rows at the detector, DICOM (0018,1164).
        columns, rows: Size of the image.
        principal_point_uv: (2,), where the central ray meets the detector, pixels; the image's middle if not given.
        reversed_columns: Whether columns run along -x instead: the image is displayed as if seen from the detector's
            other side, as a PA radiograph is, to show the patient's left on its right.

    Example:
        >>> camera = ProjectionGeometry(sdd_mm=1000, column_spacing_mm=0.5, row_spacing_mm=0.5, columns=401, rows=301)
        >>> camera.project([10, 0, 500])  # twice as large at the detector: 20 mm, or 40 pixels, from the middle
        array([240., 150.])
    """

    sdd_mm: float
    column_spacing_mm: float
    row_spacing_mm: float
    columns: int
    rows: int
    principal_point_uv: np.ndarray = None  # type: ignore[assignment]  # None when it is made stands for the middle
    reversed_columns: bool = False

    def __post_init__(self) -> None:
        """Check all numbers, and put the central ray through the middle where no point is given."""
        for name in ("sdd_mm", "column_spacing_mm", "row_spacing_mm"):
            value = float(getattr(self, name))
            if not np.isfinite(value) or value <= 0:
                raise GeometryError(f"{name}: expected a positive number, got {getattr(self, name)!r}")
            object.__setattr__(self, name, value)
        for name in ("columns", "rows"):
            value = int(getattr(self, name))
            if value < 1:
                raise GeometryError(f"{name}: expected a positive number, got {getattr(self, name)!r}")
            object.__setattr__(self, name, value)
        point = self.principal_point_uv
        point = np.array([(self.columns - 1) / 2, (self.rows - 1) / 2] if point is None else point, dtype=np.float64)
        if point.shape != (2,) or not np.isfinite(point).all():
            raise GeometryError(f"principal_point_uv: expected two finite numbers, got {self.principal_point_uv!r}")
        object.__setattr__(self, "principal_point_uv", frozen(point))
        object.__setattr__(self, "reversed_columns", bool(self.reversed_columns))

    def __repr__(self) -> str:
        """Source distance, spacing, size and principal point in one line."""
        u, v = self.principal_point_uv
        return (
            f"ProjectionGeometry(sdd_mm={self.sdd_mm:.6g}, column_spacing_mm={self.column_spacing_mm:.6g}, "
            f"row_spacing_mm={self.row_spacing_mm:.6g}, columns={self.columns}, rows={self.rows}, "
            f"principal_point_uv=({u:.6g}, {v:.6g}){', reversed_columns=True' if self.reversed_columns else ''})"
        )

    @property
    def pixel_step_mm(self) -> np.ndarray:
        """(2,), from one column, and from one row, to the next along the camera's x and y; x < 0 if reversed."""
        across = -self.column_spacing_mm if self.reversed_columns else self.column_spacing_mm
        return np.array([across, self.row_spacing_mm])

    @property
    def intrinsics(self) -> np.ndarray:
        """K, (3, 3), from camera coordinates to homogeneous pixels."""
        cu, cv = self.principal_point_uv
        fu, fv = self.sdd_mm / self.pixel_step_mm
        return np.array([[fu, 0, cu], [0, fv, cv], [0, 0, 1]])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    def project(self, points_mm: np.ndarray, *, camera_from_world: RigidTransform | None = None) -> np.ndarray:
        """Project points onto the detector.

        Args:
            points_mm: (..., 3), in world (LPS) coordinates, or in camera coordinates if no transform is given, mm.
            camera_from_world: Pose of the world.

        Returns:
            (..., 2), pixel coordinates (u, v).

        Raises:
            GeometryError: A point lies at or behind the source.
        """
        points = np.asarray(points_mm, float)
        if camera_from_world is not None:
            points = camera_from_world.apply(points)
        depth = points[..., 2]
        if not (depth > 0).all():
            raise GeometryError(f"points_mm: expected depths in front of the source, got {float(np.min(depth)):.1f} mm")
        return self.sdd_mm * points[..., :2] / depth[..., None] / self.pixel_step_mm + self.principal_point_uv

    def unproject(self, uv: np.ndarray, depth_mm: float | np.ndarray) -> np.ndarray:
        """Camera points (..., 3), mm, that project to pixels (..., 2) and lie `depth_mm` along +z from the source."""
        at_detector = (np.asarray(uv, float) - self.principal_point_uv) * self.pixel_step_mm
        depth = np.broadcast_to(np.asarray(depth_mm, float), at_detector.shape[:-1])
        return np.concatenate([at_detector * (depth / self.sdd_mm)[..., None], depth[..., None]], axis=-1)

    def binned(self, factor: int) -> ProjectionGeometry:
        """The geometry of the image after averaging blocks of factor x factor pixels; a ragged edge is dropped."""
        return replace(
            self,
            column_spacing_mm=self.column_spacing_mm * factor,
            row_spacing_mm=self.row_spacing_mm * factor,
            columns=self.columns // factor,
            rows=self.rows // factor,
            principal_point_uv=(self.principal_point_uv - (factor - 1) / 2) / factor,
        )

    def resized(self, rows: int, columns: int) -> ProjectionGeometry:
        """The geometry of the same detector area sampled with other pixels."""
        scale = np.array([self.columns / columns, self.rows / rows])
        return replace(
            self,
            column_spacing_mm=self.column_spacing_mm * scale[0],
            row_spacing_mm=self.row_spacing_mm * scale[1],
            columns=columns,
            rows=rows,
            principal_point_uv=(self.principal_point_uv + 0.5) / scale - 0.5,
        )

    def cropped(self, *, row: int, column: int, rows: int, columns: int) -> ProjectionGeometry:
        """The geometry of a window of the image whose first pixel is (row, column); it may reach past the image."""
        return replace(self, columns=columns, rows=rows, principal_point_uv=self.principal_point_uv - (column, row))

    def to_dict(self) -> dict[str, Any]:
        """As in a registration file's `camera`; reversed columns are named only where they are."""
        return {
            "sdd_mm": self.sdd_mm,
            "column_spacing_mm": self.column_spacing_mm,
            "row_spacing_mm": self.row_spacing_mm,
            "columns": self.columns,
            "rows": self.rows,
            "principal_point_uv": self.principal_point_uv.tolist(),
            **({"reversed_columns": True} if self.reversed_columns else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProjectionGeometry:
        """From `to_dict`, further keys ignored.

        Raises:
            GeometryError: A key is missing.
        """
        required = ("sdd_mm", "column_spacing_mm", "row_spacing_mm", "columns", "rows")
        missing = [name for name in required if name not in data]
        if missing:
            raise GeometryError(f"camera: missing {', '.join(missing)}")
        known = (*required, "principal_point_uv", "reversed_columns")
        return cls(**{name: data[name] for name in known if name in data})
