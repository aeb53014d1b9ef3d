"""The femoral head: the sphere through it, for landmarks, registration and simulation alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.grid import frozen
from bmdkit.core.volume import LabelMap
from bmdkit.errors import CaseError
from bmdkit.regions.shape import Shape

_DEPTH_MM = 40.0  # below the femur's top: holds the head
_MEDIAL_PERCENT = 45  # of that part of the surface
_TOLERANCE_MM = 1.5
_LEAST_POINTS = 50
_ROUNDS = 30
_LEAST_SHAFT_MM = 60.0  # below the head centre, for its axis to be found
_SHAFT_END_MM = 8.0  # from the shaft's axis: a sphere that lies nearer is the end of a shaft


@dataclass(frozen=True)
class HeadConfig:
    """What passes for a femoral head.

    Attributes:
        radius_mm: Range of its radius.
        inliers: Least share of its medial surface that lies on the sphere.
    """

    radius_mm: tuple[float, float] = (15.0, 34.0)
    inliers: float = 0.3


@dataclass(frozen=True, eq=False)
class FemoralHead:
    """The sphere through a femoral head.

    Attributes:
        centre_mm: (3,), its centre, LPS; mirrored in x where the surface was.
        radius_mm: Its radius.
        inliers: Share of the head's medial surface within the tolerance of it.
    """

    centre_mm: np.ndarray
    radius_mm: float
    inliers: float

    def __post_init__(self) -> None:
        """Check the numbers."""
        centre = frozen(np.array(self.centre_mm, float))
        if centre.shape != (3,) or not np.isfinite(centre).all():
            raise ValueError(f"centre_mm: expected three finite numbers, got {self.centre_mm!r}")
        object.__setattr__(self, "centre_mm", centre)


def find_head(labels: LabelMap, side: Side, config: HeadConfig | None = None) -> FemoralHead:
    """Find the head of one femur in a label map, above as much of a shaft as the scan shows.

    Args:
        labels: Label map that shows the femur.
        side: The hip.
        config: What passes for a head.

    Returns:
        The head, its centre in LPS, mm.

    Raises:
        CaseError: BMD-LMK-001, the femur has no voxel or no head.
    """
    shape = Shape.of_femur(labels, side)
    head = require_head(fit_head(shape.surface_mm), side, config)
    if head.centre_mm[2] - shape.bottom_mm >= _LEAST_SHAFT_MM:
        require_medial_head(head, *fit_shaft(shape, head, side), side, _SHAFT_END_MM)
    return replace(head, centre_mm=shape.to_lps(head.centre_mm))


def fit_head(surface_mm: np.ndarray) -> FemoralHead | None:
    """Fit a sphere to the medial surface of a femur's top, dropping step by step the points that lie off it.

    Args:
        surface_mm: (n, 3), points of the surface of a left femur, LPS; a right one's mirrored in x.

    Returns:
        The head, or None where the fit does not settle.
    """
    points = surface_mm[surface_mm[:, 2] > surface_mm[:, 2].max() - _DEPTH_MM]
    points = points[points[:, 0] < np.percentile(points[:, 0], _MEDIAL_PERCENT)]
    if len(points) < _LEAST_POINTS:
        return None
    keep = np.ones(len(points), bool)
    centre, radius = points.mean(axis=0), 0.0
    for _ in range(_ROUNDS):
        centre, radius = _sphere_through(points[keep])
        distance = np.abs(np.linalg.norm(points - centre, axis=1) - radius)
        fresh = distance < _TOLERANCE_MM
        if fresh.sum() < _LEAST_POINTS:
            return None
        if (fresh == keep).all():
            break
        keep = fresh
    return FemoralHead(centre, radius, float(keep.mean()))


def require_head(head: FemoralHead | None, side: Side, config: HeadConfig | None = None) -> FemoralHead:
    """Check that a fitted sphere is a femoral head.

    Args:
        head: Head from `fit_head`.
        side: The hip, for the message.
        config: What passes for a head.

    Raises:
        CaseError: BMD-LMK-001, it is none.
    """
    config = HeadConfig() if config is None else config
    low, high = config.radius_mm
    if head is None or not low <= head.radius_mm <= high or head.inliers < config.inliers:
        found = "none" if head is None else f"radius {head.radius_mm:.1f} mm, {100 * head.inliers:.0f} % on the sphere"
        raise CaseError("BMD-LMK-001", f"femur_{side}: no femoral head ({found}).")
    return head


def fit_shaft(shape: Shape, head: FemoralHead, side: Side) -> tuple[np.ndarray, np.ndarray]:
    """Fit a line through the centres of a shaft's sections.

    Args:
        shape: The femur.
        head: Its head.
        side: The hip, for the message.

    Returns:
        A point of the shaft's axis and its direction, upwards.

    Raises:
        CaseError: BMD-LMK-001, too little of the shaft is there.
    """
    bottom = shape.bottom_mm
    low, high = max(bottom + 5, head.centre_mm[2] - 160), max(head.centre_mm[2] - 80, bottom + 25)
    levels = np.arange(low, high, 1.5)
    centres = np.array([c for z in levels if (c := shape.level_centre(z)) is not None])
    if len(centres) < 5 or head.centre_mm[2] - bottom < _LEAST_SHAFT_MM:
        raise CaseError("BMD-LMK-001", f"femur_{side} ends {head.centre_mm[2] - bottom:.0f} mm below the head centre.")
    middle = centres.mean(axis=0)
    axis = np.linalg.svd(centres - middle)[2][0]
    return middle, axis * np.sign(axis[2])


def require_medial_head(
    head: FemoralHead, shaft_point: np.ndarray, shaft_axis: np.ndarray, side: Side, least_mm: float
) -> None:
    """Check that a sphere lies to medial of the shaft's axis, as a head does and the end of a shaft does not.

    Args:
        head: Head from `fit_head`.
        shaft_point: Point of the shaft's axis, from `fit_shaft`.
        shaft_axis: Direction of the same.
        side: The hip, for the message.
        least_mm: Distance from the axis that is asked for.

    Raises:
        CaseError: BMD-LMK-001, it lies elsewhere.
    """
    offset = float((shaft_point + (head.centre_mm - shaft_point) @ shaft_axis * shaft_axis - head.centre_mm)[0])
    if offset < least_mm:
        allowed = f"needed {least_mm:.0f} mm"
        raise CaseError("BMD-LMK-001", f"femur_{side}: no head, {offset:.0f} mm medial of the shaft's axis, {allowed}.")


def _sphere_through(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares centre and radius of points (n, 3), n >= 4."""
    middle = points.mean(axis=0)
    away = points - middle
    solution = np.linalg.lstsq(np.c_[2 * away, np.ones(len(away))], (away**2).sum(axis=1), rcond=None)[0]
    return solution[:3] + middle, float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 0.0)))
