"""Volumes whose line integrals are known."""

from __future__ import annotations

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume


def oblique(angle_deg: float = 25.0) -> np.ndarray:
    """A rotation about an odd axis."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(np.deg2rad(angle_deg) * np.array([1, 2, 3]) / np.sqrt(14)).as_matrix()


def grid(size: int, spacing_mm: float, direction: np.ndarray | None = None, aspect=(1.0, 1.0, 1.0)) -> Grid:
    """A cube of voxels about the origin."""
    direction = np.eye(3) if direction is None else direction
    spacing = spacing_mm * np.array(aspect)
    return Grid((size,) * 3, spacing, -direction @ (spacing * (size - 1) / 2), direction)


def sampled(where: Grid, soft_mm: float, distance_mm) -> Volume:
    """A body of density 1 whose edge falls over `soft_mm`; distance_mm(points) is its signed distance, < 0 inside."""
    points = where.points(np.stack(np.indices(where.shape), axis=-1))
    return Volume(edge(-distance_mm(points), soft_mm).astype(np.float32), where, "density_mg_cm3")


def edge(depth_mm: np.ndarray, soft_mm: float) -> np.ndarray:
    """0 outside, 1 inside, a raised cosine over `soft_mm` between; across the edge its integral is a sharp one's."""
    ramp = np.clip(depth_mm / soft_mm, -0.5, 0.5)
    return 0.5 * (1 + np.sin(np.pi * ramp))


def rays(geometry: ProjectionGeometry, camera_from_ct: RigidTransform) -> tuple[np.ndarray, np.ndarray]:
    """Source (3,) and unit directions (rows, columns, 3) in LPS."""
    rows, columns = geometry.shape
    uv = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    ends = geometry.unproject(uv, geometry.sdd_mm)
    ct_from_camera = camera_from_ct.inverse()
    directions = ends @ ct_from_camera.rotation.T
    return ct_from_camera.translation_mm, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def integral(source: np.ndarray, directions: np.ndarray, value, near_mm: float, far_mm: float, count: int = 4000):
    """Line integrals of value(points) by the midpoint rule, fine enough to stand for a closed form of a soft body."""
    step = (far_mm - near_mm) / count
    total = np.zeros(directions.shape[:-1])
    for t in near_mm + (np.arange(count) + 0.5) * step:
        total += value(source + t * directions)
    return total * step
