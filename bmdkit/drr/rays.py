"""Rays of a view in the index coordinates of a volume: float64, affine in the pixel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid

Beam = Literal["perspective", "parallel"]

Roi = tuple[int, int, int, int]
"""A window of the detector: first row, first column, rows, columns."""


def stack_poses(poses: Sequence[RigidTransform] | np.ndarray) -> np.ndarray:
    """(P, 4, 4), float64, camera_from_ct of every pose.

    Raises:
        GeometryError: A matrix is not finite, or not that of a rigid motion.
    """
    if isinstance(poses, RigidTransform):
        poses = [poses]
    given = [pose.matrix if isinstance(pose, RigidTransform) else pose for pose in poses]
    matrices = np.array(given, dtype=np.float64)
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4) or len(matrices) == 0:
        raise GeometryError(f"poses: expected shape (P, 4, 4) with P >= 1, got {matrices.shape}")
    if not np.isfinite(matrices).all():
        infinite = np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2))).tolist()
        raise GeometryError(f"poses: expected finite matrices, got others at {infinite}")
    turns = matrices[:, :3, :3]
    error = np.abs(turns.transpose(0, 2, 1) @ turns - np.eye(3)).max(axis=(1, 2))
    bad = np.flatnonzero((error > 1e-4) | (np.linalg.det(turns) < 0))
    if bad.size:
        raise GeometryError(f"poses: expected proper rotations, got others at {bad.tolist()}")
    return matrices


def repeat_geometry(
    geometry: ProjectionGeometry | Sequence[ProjectionGeometry], count: int
) -> list[ProjectionGeometry]:
    """One geometry per pose; all with images of one size."""
    if isinstance(geometry, ProjectionGeometry):
        return [geometry] * count
    geometries = list(geometry)
    if len(geometries) != count:
        raise ValueError(f"geometry: expected one or {count}, as many as poses, got {len(geometries)}")
    if len({g.shape for g in geometries}) > 1:
        raise ValueError(f"geometry: expected images of one size, got {sorted({g.shape for g in geometries})}")
    return geometries


def window(roi: Roi | None, geometry: ProjectionGeometry) -> Roi:
    """The region of interest, the whole detector if None."""
    if roi is None:
        return 0, 0, geometry.rows, geometry.columns
    row, column, rows, columns = (int(value) for value in roi)
    if rows < 1 or columns < 1:
        raise ValueError(f"roi: expected (row, column, rows, columns) with positive sizes, got {roi}")
    return row, column, rows, columns


def set_up_rays(
    grid: Grid,
    matrices: np.ndarray,
    geometries: Sequence[ProjectionGeometry],
    beam: Beam = "perspective",
) -> np.ndarray:
    """Rays of every view, float64, (P, 27): affine maps from pixel coordinates to index and to camera space.

    The ray of pixel (u, v) is origin + t direction, with origin = a[0:3] + u a[3:6] + v a[6:9] and
    direction = a[9:12] + u a[12:15] + v a[15:18], both (column, row, slice) indices; the same direction in mm, in
    camera axes, is a[18:21] + u a[21:24] + v a[24:27].
    """
    if beam not in get_args(Beam):
        raise ValueError(f"beam: expected one of {get_args(Beam)}, got {beam!r}")
    camera = np.zeros((len(matrices), 6, 3))  # origin, d origin / du, d origin / dv, direction, .. / du, .. / dv
    for rays, g in zip(camera, geometries, strict=True):
        (cu, cv), (across, down) = g.principal_point_uv, g.pixel_step_mm
        pixel = np.array([[-cu * across, -cv * down, 0], [across, 0, 0], [0, down, 0]])
        if beam == "perspective":
            rays[3:] = pixel
        else:
            rays[:3] = pixel
        rays[3, 2] = g.sdd_mm
    turns = matrices[:, :3, :3]
    ijk_from_lps = grid.ijk_from_lps
    ijk_from_camera = ijk_from_lps[:3, :3] @ turns.transpose(0, 2, 1)
    source_lps = -np.einsum("pji,pj->pi", turns, matrices[:, :3, 3])
    index = np.einsum("pij,pnj->pni", ijk_from_camera, camera)
    index[:, 0] += source_lps @ ijk_from_lps[:3, :3].T + ijk_from_lps[:3, 3]
    return np.concatenate([index.reshape(-1, 18), camera[:, 3:].reshape(-1, 9)], axis=1)


def find_footprints(
    grid: Grid,
    box: np.ndarray,
    matrices: np.ndarray,
    geometries: Sequence[ProjectionGeometry],
    window: Roi,
    beam: Beam = "perspective",
) -> tuple[np.ndarray, np.ndarray]:
    """Where an index box (2, 3), grown by a voxel, projects.

    Returns:
        (P, 4), int64: first row, row to stop at, first column, column to stop at, within the window.
        (P,), bool: the box reaches to or behind the source; there the first is the whole window.
    """
    low, high = np.asarray(box, float) + np.array([[-1.0], [1.0]])
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
    points = corners @ grid.lps_from_ijk[:3, :3].T + grid.origin_mm
    points = points @ matrices[:, :3, :3].transpose(0, 2, 1) + matrices[:, None, :3, 3]
    behind = (points[..., 2] <= 0).any(axis=1) & (beam == "perspective")
    camera = np.array([[g.sdd_mm, *g.pixel_step_mm, *g.principal_point_uv] for g in geometries])
    scale = np.ones(1)
    if beam == "perspective":
        scale = camera[:, 0, None] / np.where(behind[:, None], 1.0, points[..., 2])
    row0, column0, rows, columns = window
    spans = []
    for axis, first, size in ((1, row0, rows), (0, column0, columns)):
        pixels = points[..., axis] * scale / camera[:, 1 + axis, None] + camera[:, 3 + axis, None] - first
        edges = np.clip(np.stack([pixels.min(axis=1) - 1, pixels.max(axis=1) + 2]), 0, size).astype(np.int64)
        spans += list(np.where(behind, np.array([[0], [size]]), edges))
    return np.ascontiguousarray(np.stack(spans, axis=1)), behind
