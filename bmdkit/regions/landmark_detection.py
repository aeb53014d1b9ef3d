"""The eight landmarks of a proximal femur, read off its mask."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bmdkit.core.anatomy import Side, require_side
from bmdkit.core.arguments import require_type
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap
from bmdkit.errors import CaseError
from bmdkit.regions.findings import Flag
from bmdkit.regions.head import FemoralHead, HeadConfig, fit_head, fit_shaft, require_head, require_medial_head
from bmdkit.regions.neck import find_junction_height, find_rim, follow_neck
from bmdkit.regions.shape import Shape

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LandmarkConfig:
    """Limits of the search.

    Attributes:
        head: What passes for a femoral head.
        least_offset_mm: Distance that a head lies at least to medial of the shaft's axis.
        lesser_below_mm: Range below the head centre, along the shaft, of the lesser trochanter.
        junction_share: Usual distance of the junction from the head centre, in radii; what is measured is drawn
            halfway to it (either alone errs by about 2 mm), and it is the fall-back.
        leave_mm: Distance of the surface from the sphere at which the junction begins.
    """

    head: HeadConfig = field(default_factory=HeadConfig)
    least_offset_mm: float = 15.0
    lesser_below_mm: tuple[float, float] = (35.0, 85.0)
    junction_share: float = 0.74
    leave_mm: float = 1.25


@dataclass(frozen=True, eq=False)
class DetectedLandmarks:
    """Landmarks that were found, and how far to trust them.

    Attributes:
        landmarks: Landmarks, LPS, mm.
        confidence: Name -> 0 (guess) to 1 (sure).
        flags: Findings that a user should look at.
        head_radius_mm: Radius of the sphere through the head.
        neck_shaft_angle_deg: Angle between neck axis and shaft axis.
        lesser_trochanter_mm: (3,), LPS, tip of the lesser trochanter.
    """

    landmarks: Landmarks
    confidence: Mapping[str, float]
    flags: tuple[Flag, ...]
    head_radius_mm: float
    neck_shaft_angle_deg: float
    lesser_trochanter_mm: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "points_mm": {name: point.round(3).tolist() for name, point in self.landmarks.points_mm.items()},
            "confidence": dict(self.confidence),
            "head_radius_mm": round(self.head_radius_mm, 3),
            "neck_shaft_angle_deg": round(self.neck_shaft_angle_deg, 2),
            "lesser_trochanter_mm": [round(v, 3) for v in self.lesser_trochanter_mm],
            "flags": [vars(flag) for flag in self.flags],
        }


def find_landmarks(labels: LabelMap, side: Side, config: LandmarkConfig | None = None) -> DetectedLandmarks:
    """Find the landmarks of one hip from its femur's mask; a right femur is mirrored and treated as a left one.

    Sphere through the head; shaft axis through its sections; lesser trochanter as the point that protrudes most to
    medial and posterior; shaft centres 20 and 50 mm below it; neck centre in the smallest section of the neck; junction
    where the surface leaves the sphere.

    Args:
        labels: Label map that shows the femur.
        side: The hip.
        config: Limits of the search.

    Raises:
        ValueError: The side is neither L nor R.
        CaseError: BMD-LMK-001, the femur is missing, cut above the distal plane, or has no head.

    Example:
        >>> from bmdkit import read_labels
        >>> labels = read_labels("cohort/labels/sim000.nii.gz")
        >>> find_landmarks(labels, "L").landmarks
        Landmarks(L, 8 of 8 points)
    """
    require_type("labels", labels, LabelMap)
    require_side(side)
    config = LandmarkConfig() if config is None else config
    shape = Shape.of_femur(labels, side)
    head = require_head(fit_head(shape.surface_mm), side, config.head)
    shaft_point, shaft_axis = fit_shaft(shape, head, side)
    require_medial_head(head, shaft_point, shaft_axis, side, config.least_offset_mm)
    lesser, protrusion = _lesser_trochanter(shape, head, shaft_point, shaft_axis, config)
    points, confidence, flags = _shaft_centres(shape, lesser, shaft_point, shaft_axis, side)
    neck = follow_neck(shape, head, shaft_point, shaft_axis)
    height, spread = find_junction_height(shape, head, neck, config.leave_mm)
    share = height / head.radius_mm
    usual = config.junction_share * head.radius_mm
    sure = 0.5 <= share <= 0.95 and spread <= 0.3 * head.radius_mm
    if sure:
        height = 0.5 * (height + usual)
    else:
        measured = share if np.isfinite(share) else None
        seen = "no junction" if measured is None else f"junction at {share:.2f} radii (spread {spread:.1f} mm)"
        message = f"{seen}: set at {config.junction_share} radii"
        flags.append(Flag("BMD-LMK-002", message, measured, config.junction_share, side))
        height = usual
    points |= {"head_center": head.centre_mm, "neck_center": neck.centre_mm}
    points |= find_rim(shape, head, neck, height)
    confidence |= {"head_center": head.inliers, "neck_center": neck.confidence}
    certain = float(np.clip(1 - spread / (0.5 * head.radius_mm), 0.1, 1)) if sure else 0.2
    confidence |= {name: certain for name in points if name.startswith("junction")}
    for name in ("shaft_2cm", "shaft_5cm"):
        confidence[name] *= float(np.clip(protrusion / 8.0, 0.2, 1.0))
    angle = 180.0 - float(np.degrees(np.arccos(np.clip(-neck.direction @ shaft_axis, -1, 1))))
    x, y, z = (float(v) for v in shape.to_lps(lesser))
    landmarks = Landmarks(side, {name: shape.to_lps(point) for name, point in points.items()})
    _LOG.debug("hip %s: head %.1f mm, junction %.2f radii, neck-shaft %.0f degrees", side, head.radius_mm, share, angle)
    return DetectedLandmarks(
        landmarks,
        {name: round(float(confidence[name]), 3) for name in landmarks.points_mm},
        tuple(flags),
        head.radius_mm,
        angle,
        (x, y, z),
    )


def _lesser_trochanter(
    shape: Shape, head: FemoralHead, shaft_point: np.ndarray, shaft_axis: np.ndarray, config: LandmarkConfig
) -> tuple[np.ndarray, float]:
    """The surface point that lies farthest to medial and posterior of the shaft's axis; and how far it stands out."""
    away = shape.surface_mm - shaft_point
    along = away @ shaft_axis
    below = (head.centre_mm - shaft_point) @ shaft_axis - along
    outward = np.array([-0.6, 0.8, 0.0])
    # to a nanometre: of points that reach equally far the first is taken, whatever the last bits of a processor's sums
    reach = np.round((away - along[:, None] * shaft_axis) @ outward, 6)
    low, high = config.lesser_below_mm
    near = (below > low) & (below < high)
    if not near.any():
        raise CaseError("BMD-LMK-001", f"the femur ends above {low:.0f} mm below the head centre.")
    top = int(np.flatnonzero(near)[np.argmax(reach[near])])
    under = (below > below[top] + 25) & (below < below[top] + 45)
    usual = float(reach[under].max()) if under.any() else 0.0
    return shape.surface_mm[top], float(reach[top]) - usual


def _shaft_centres(
    shape: Shape, lesser: np.ndarray, shaft_point: np.ndarray, shaft_axis: np.ndarray, side: Side
) -> tuple[dict[str, np.ndarray], dict[str, float], list[Flag]]:
    points, confidence, flags = {}, {}, []
    for name, drop in (("shaft_2cm", 20.0), ("shaft_5cm", 50.0)):
        z = lesser[2] - drop
        centre = shape.level_centre(z)
        confidence[name] = 1.0
        if centre is None:
            short = shape.bottom_mm - z
            if name == "shaft_2cm":
                raise CaseError("BMD-LMK-001", f"femur_{side} ends {short:.1f} mm above the level of shaft_2cm.")
            centre = shaft_point + shaft_axis * (z - shaft_point[2]) / shaft_axis[2]
            message = f"shaft_5cm lies {short:.1f} mm below the femur's end: on the shaft's axis instead"
            flags.append(Flag("BMD-LMK-002", message, short, 0.0, side))
            confidence[name] = 0.5
        points[name] = centre
    return points, confidence, flags
