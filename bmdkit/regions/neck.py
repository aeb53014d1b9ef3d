"""The neck of a femur: its axis, its smallest section, and where the head goes over into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.vectors import scale_to_one
from bmdkit.regions.head import FemoralHead
from bmdkit.regions.shape import Shape

_HALF_MM = 34
_FAR_MM = 48.0  # from the head centre: no neck is longer
_ROUNDS = 10
_SECTORS = 36
_LEAST_DEG, _MOST_DEG = 25.0, 75.0  # from the neck's axis, seen from the head centre: where the head may end


@dataclass(frozen=True, eq=False)
class Neck:
    """The neck's axis and smallest section.

    Attributes:
        centre_mm: (3,), middle of the smallest section.
        direction: (3,), unit vector from the head centre to it.
        area_mm2: Area of the smallest section.
        confidence: 0 to 1, how far the section is smaller than those to either side.
    """

    centre_mm: np.ndarray
    direction: np.ndarray
    area_mm2: float
    confidence: float


def follow_neck(shape: Shape, head: FemoralHead, shaft_point: np.ndarray, shaft_axis: np.ndarray) -> Neck:
    """Find the smallest section across the line from the head centre to it, starting towards the shaft."""
    start = shaft_point + ((head.centre_mm - shaft_point) @ shaft_axis - 25) * shaft_axis
    direction = scale_to_one(start - head.centre_mm)
    centre, area, areas = start, np.inf, []
    heights = np.arange(0.8 * head.radius_mm, _FAR_MM, 1.0)
    for _ in range(_ROUNDS):
        sections = [_section(shape, head.centre_mm + t * direction, direction) for t in heights]
        areas = [found[0] for found in sections if found is not None]
        if not areas:
            break
        area, centre = min((found for found in sections if found is not None), key=lambda found: found[0])
        before = direction
        direction = scale_to_one(0.5 * direction + 0.5 * scale_to_one(centre - head.centre_mm))
        if before @ direction > np.cos(np.deg2rad(0.2)):
            break
    ends = min(areas[0], areas[-1]) if areas else area
    return Neck(centre, direction, float(area), float(np.clip(3 * (ends / area - 1), 0.3, 1.0)) if areas else 0.1)


def find_junction_height(shape: Shape, head: FemoralHead, neck: Neck, leave_mm: float) -> tuple[float, float]:
    """Find how far along the neck's axis from the head centre the surface leaves the sphere.

    Seen from the head centre, in each of many half-planes through the neck's axis, the surface lies one radius away
    over the head and farther along the neck; the junction is where, coming from the neck, it first comes within
    `leave_mm`.

    Returns:
        The median over the half-planes and their interquartile range, mm; NaN and infinity if most show no neck.
    """
    first, second = find_perpendiculars(neck.direction)
    angles = np.deg2rad(np.arange(_LEAST_DEG, _MOST_DEG + 0.1, 1.0))
    around = np.arange(_SECTORS) * 2 * np.pi / _SECTORS
    side = np.cos(around)[:, None] * first + np.sin(around)[:, None] * second
    rays = np.cos(angles)[None, :, None] * neck.direction + np.sin(angles)[None, :, None] * side[:, None, :]
    distances = np.arange(0.5 * head.radius_mm, 1.6 * head.radius_mm, 0.25)
    inside = shape.inside(head.centre_mm + rays[:, :, None, :] * distances[None, None, :, None]) > 0.5
    edge = distances[np.where(inside.all(axis=2), len(distances) - 1, np.argmin(inside, axis=2))]
    back = edge - head.radius_mm <= leave_mm
    found = back.any(axis=1)
    if found.sum() < _SECTORS / 2:
        return np.nan, np.inf
    heights = head.radius_mm * np.cos(angles[np.argmax(back, axis=1)[found]])
    return float(np.median(heights)), float(np.percentile(heights, 75) - np.percentile(heights, 25))


def find_rim(shape: Shape, head: FemoralHead, neck: Neck, height_mm: float) -> dict[str, np.ndarray]:
    """The four junction points: where the surface meets the plane across the neck `height_mm` from the head centre."""
    middle = head.centre_mm + height_mm * neck.direction
    up = scale_to_one(np.array([0.0, 0.0, 1.0]) - neck.direction[2] * neck.direction)
    front = np.array([0.0, -1.0, 0.0]) + neck.direction[1] * neck.direction
    front = scale_to_one(front - (front @ up) * up)
    steps = np.arange(0.0, 2 * head.radius_mm, 0.25)
    points = {}
    for name, direction in (("superior", up), ("inferior", -up), ("anterior", front), ("posterior", -front)):
        outside = shape.inside(middle + steps[:, None] * direction) < 0.5
        points[f"junction_{name}"] = middle + steps[int(np.argmax(outside))] * direction
    return points


def find_perpendiculars(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to a direction and to each other."""
    first = scale_to_one(np.cross(direction, [0.0, 1.0, 0.0]))
    return first, np.cross(direction, first)


def _section(shape: Shape, middle: np.ndarray, direction: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Area, mm2, and centre of the section of the bone across a direction; None where it misses the bone."""
    first, second = find_perpendiculars(direction)
    steps = np.arange(-_HALF_MM, _HALF_MM + 0.5, 1.0)
    plane = middle + steps[:, None, None] * first + steps[None, :, None] * second
    parts, count = ndimage.label(shape.inside(plane) > 0.5)
    if not count:
        return None
    chosen = parts[_HALF_MM, _HALF_MM] or 1 + np.argmax(np.bincount(parts.ravel())[1:])
    part = parts == chosen
    return float(part.sum()), plane[part].mean(axis=0)
