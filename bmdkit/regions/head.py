"""The sphere through a femoral head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.regions.shape import Shape

_DEPTH_MM = 40.0  # below the femur's top: holds the head
_TOLERANCE_MM = 1.5
_ROUNDS = 30


@dataclass(frozen=True, eq=False)
class Sphere:
    """A fitted sphere.

    Attributes:
        centre_mm: (3,).
        radius_mm: Its radius.
        inliers: Share of the head's medial surface within the tolerance of it.
    """

    centre_mm: np.ndarray
    radius_mm: float
    inliers: float


def fit_head(shape: Shape) -> Sphere | None:
    """Fit a sphere robustly to the medial surface of a left (or mirrored) femur's top; None if it does not settle."""
    points = shape.surface_mm
    points = points[points[:, 2] > points[:, 2].max() - _DEPTH_MM]
    points = points[points[:, 0] < np.percentile(points[:, 0], 45)]
    if len(points) < 50:
        return None
    keep = np.ones(len(points), bool)
    centre, radius = points.mean(axis=0), 0.0
    for _ in range(_ROUNDS):
        centre, radius = sphere_through(points[keep])
        distance = np.abs(np.linalg.norm(points - centre, axis=1) - radius)
        fresh = distance < _TOLERANCE_MM
        if fresh.sum() < 50:
            return None
        if (fresh == keep).all():
            break
        keep = fresh
    return Sphere(centre, radius, float(keep.mean()))


def sphere_through(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares centre and radius of points (n, 3), n >= 4."""
    middle = points.mean(axis=0)
    away = points - middle
    solution = np.linalg.lstsq(np.c_[2 * away, np.ones(len(away))], (away**2).sum(axis=1), rcond=None)[0]
    return solution[:3] + middle, float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 0.0)))
