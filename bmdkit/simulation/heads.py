"""The femoral head of a femur that is known by its voxels only."""

from __future__ import annotations

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.volume import Grid

_TRIALS = 400
_INLIER_MM = 1.0
_RADII_MM = (15.0, 34.0)


def fit_head(depth: np.ndarray, grid: Grid, side: Side) -> tuple[np.ndarray, float]:
    """Centre (LPS, mm) and radius of the sphere that most of the upper inner surface of a femur agrees on.

    Args:
        depth: Of the femur, mm, [slice, row, column].
        grid: Where its voxels lie.
        side: Of the patient; the head is on the inner side.

    Raises:
        ValueError: There is no such sphere.

    Source: Fischler and Bolles 1981, doi 10.1145/358669.358692.
    """
    step = float(grid.spacing_mm.max())
    nothing = ValueError(f"no femoral head of {_RADII_MM[0]:g} to {_RADII_MM[1]:g} mm radius in femur_{side}")
    index = np.argwhere(np.abs(depth) < 0.75 * step)
    if len(index) < 100:
        raise nothing
    points = grid.points(index)
    values = depth[tuple(index.T)]
    upper = points[:, 2] > points[:, 2].max() - 65
    points, values = points[upper], values[upper]
    inner = points[:, 0] * (1 if side == "L" else -1)
    keep = inner < np.quantile(inner, 0.65)
    points, values = points[keep], values[keep]
    rng = np.random.default_rng(0)  # which samples are tried, not what is simulated
    best, best_count = None, -1
    for _ in range(_TRIALS):
        try:
            centre, radius = _sphere(points[rng.choice(len(points), 4, replace=False)], np.zeros(4))
        except np.linalg.LinAlgError:
            continue
        if not _RADII_MM[0] < radius < _RADII_MM[1]:
            continue
        count = (np.abs(np.linalg.norm(points - centre, axis=1) - radius) < _INLIER_MM).sum()
        if count > best_count:
            best, best_count = (centre, radius), count
    if best is None:
        raise nothing
    centre, radius = best
    for _ in range(6):
        near = np.abs(np.linalg.norm(points - centre, axis=1) + values - radius) < _INLIER_MM
        centre, radius = _sphere(points[near], values[near])
    return centre, float(radius)


def _sphere(points: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares sphere of points that lie `depth` below its surface, refined once from the algebraic fit."""
    middle = points.mean(axis=0)
    local = points - middle
    solution, *_ = np.linalg.lstsq(np.c_[2 * local, np.ones(len(local))], (local**2).sum(axis=1), rcond=None)
    centre = solution[:3]
    radius = np.sqrt(max(solution[3] + centre @ centre, 0.0))
    if len(points) > 4:
        for _ in range(5):  # Gauss-Newton on |p - c| + depth - r
            arm = local - centre
            length = np.linalg.norm(arm, axis=1)
            jacobian = np.c_[-arm / length[:, None], -np.ones(len(arm))]
            change, *_ = np.linalg.lstsq(jacobian, -(length + depth - radius), rcond=None)
            centre, radius = centre + change[:3], radius + change[3]
    return middle + centre, radius
