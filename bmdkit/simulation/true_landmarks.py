"""The head and the eight landmarks of a proximal femur, read off the depth of its noise-free shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import ndimage
from scipy.signal import find_peaks
from skimage.measure import marching_cubes

from bmdkit.core.anatomy import Side
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import bounding_box, keep_largest_component
from bmdkit.errors import CaseError
from bmdkit.regions.head import FemoralHead, fit_head, require_head

Inside = Callable[[np.ndarray], np.ndarray]
"""Whether points (..., 3), LPS, mm, lie inside a bone."""

JUNCTION_OF_RADIUS = 0.74
"""Where the head ends along the neck's axis, in head radii from its centre."""

_LEAST_HILL_MM = 0.5
"""How far a lesser trochanter stands out at least above the levels on both sides of it."""


def interpolate_depth(depth: np.ndarray, grid: Grid) -> Callable[[np.ndarray], np.ndarray]:
    """A depth function that interpolates linearly in an array; outside it is the value at the border."""

    def at(points_mm: np.ndarray) -> np.ndarray:
        where = np.moveaxis(grid.indices(points_mm), -1, 0)
        return ndimage.map_coordinates(depth, where, order=1, mode="nearest")

    return at


def find_true_head(depth: np.ndarray, grid: Grid, side: Side) -> FemoralHead:
    """Find the head of a femur that is known by its depth.

    Args:
        depth: Depth of the femur, mm, [slice, row, column].
        grid: Grid of the voxels.
        side: The hip.

    Returns:
        The head, its centre in LPS, mm.

    Raises:
        CaseError: BMD-LMK-001, there is none.
    """
    inside = depth > 0
    if not inside.any():
        raise CaseError("BMD-LMK-001", f"femur_{side} has no voxel.")
    box = bounding_box(inside, 2)
    mirror = np.array([-1.0 if side == "R" else 1.0, 1.0, 1.0])
    surface = grid.crop(box).points(marching_cubes(np.ascontiguousarray(depth[box]), 0.0)[0])
    head = require_head(fit_head(surface * mirror), side)
    return replace(head, centre_mm=head.centre_mm * mirror)


def place_landmarks(
    is_inside: Inside,
    side: Side,
    head_mm: np.ndarray,
    radius_mm: float,
    lowest_mm: float,
    lesser_mm: np.ndarray | None = None,
    within_mm: float = 12.0,
) -> tuple[Landmarks, np.ndarray]:
    """Place the landmarks of one femur and find its lesser trochanter.

    The lesser trochanter is the point of the surface, 35 to 90 mm below the head's centre, that stands out behind and
    to the middle as a hill, with less above and below it; the neck may stand out more, but only rises to the top. The
    neck's centre is the middle of its narrowest section; the shaft's points are the middles of the filled horizontal
    sections 20 and 50 mm below the lesser trochanter, left out where the femur ends above them.

    Args:
        is_inside: Says of points whether they lie in this femur.
        side: The hip.
        head_mm: (3,), LPS, centre of its head.
        radius_mm: Radius of its head.
        lowest_mm: z of the distal end of what is known of the femur.
        lesser_mm: (3,), LPS, about where the lesser trochanter is, where that is known: it is looked for near this
            height, as a deep neck may stand out more.
        within_mm: How far from this height it is looked for.
    """
    outward = 1.0 if side == "L" else -1.0
    first = np.add(head_mm, (outward * 35.0, 8.0, 0))
    below = np.arange(head_mm[2] - 90, max(head_mm[2] - 150, lowest_mm + 3), -4.0)
    levels = below if len(below) > 3 else np.linspace(lowest_mm + 25, lowest_mm + 3, 6)
    middles = np.array([_find_section_middle(is_inside, first, z, 45.0) for z in levels])
    middles = middles[np.isfinite(middles).all(axis=1)]
    slope = np.polyfit(middles[:, 2], middles[:, :2], 1)  # x and y of the shaft's axis as lines in z

    def axis_at(z):
        return np.stack([*(np.multiply.outer(slope[0], z) + slope[1].reshape(2, *[1] * np.ndim(z))), z])

    if lesser_mm is None:
        heights = _find_hill(is_inside, axis_at, head_mm[2] - np.arange(35.0, 90.0, 1.5), outward)
    else:
        heights = lesser_mm[2] - np.arange(-within_mm, within_mm + 0.1, 0.75)
    lesser = _find_lesser_trochanter(is_inside, axis_at, heights, outward)
    neck, normal = _find_narrowest_section(is_inside, head_mm, axis_at(head_mm[2] - 35.0), radius_mm)
    centre = head_mm + JUNCTION_OF_RADIUS * radius_mm * normal
    up = np.array([0, 0, 1.0]) - normal[2] * normal
    up /= np.linalg.norm(up)
    front = np.array([0, -1.0, 0]) + normal[1] * normal
    front -= (front @ up) * up
    front /= np.linalg.norm(front)
    points = {"head_center": head_mm, "neck_center": neck}
    for name, way in (("superior", up), ("inferior", -up), ("anterior", front), ("posterior", -front)):
        points[f"junction_{name}"] = _find_exit(is_inside, centre, way)
    for name, drop in (("shaft_2cm", 20.0), ("shaft_5cm", 50.0)):
        z = lesser[2] - drop
        if z > lowest_mm:
            points[name] = _find_section_middle(is_inside, axis_at(z), z, 32.0)
    found = {name: np.asarray(p, float) for name, p in points.items() if np.isfinite(p).all()}
    return Landmarks(side, found), lesser


def _find_section_middle(is_inside: Inside, near: np.ndarray, z: float, reach_mm: float) -> np.ndarray:
    """Middle of the filled section at height z within `reach_mm` of a point; NaN where there is none."""
    step = np.arange(-reach_mm, reach_mm + 0.5)
    x, y = np.meshgrid(near[0] + step, near[1] + step)
    points = np.stack([x, y, np.full_like(x, z)], axis=-1)
    inside = keep_largest_component(is_inside(points))
    return points[inside].mean(axis=0) if inside.any() else np.full(3, np.nan)


def _find_hill(is_inside: Inside, axis_at, z: np.ndarray, outward: float) -> np.ndarray:
    """Heights about the level that stands out most above its neighbours; all heights where none does."""
    step = np.arange(-40.0, 40.1, 1.0)
    across = np.stack(np.meshgrid(step, step, [0.0]), axis=-1)[:, :, 0]
    reach = across[..., :2] @ _behind_and_inward(outward)
    inside = is_inside(axis_at(z).T[:, None, None] + across)
    profile = np.where(inside, reach, step[0]).max(axis=(1, 2))
    peaks, found = find_peaks(ndimage.gaussian_filter1d(profile, 1.5), prominence=_LEAST_HILL_MM)
    if not len(peaks):
        return np.arange(z[0], z[-1], -0.75)
    return z[peaks[np.argmax(found["prominences"])]] - np.arange(-6.0, 6.1, 0.75)


def _behind_and_inward(outward: float) -> np.ndarray:
    """The way in which the lesser trochanter of a femur stands out, (2,), of x and y."""
    return np.array([-0.6 * outward, 0.8])


def _find_lesser_trochanter(is_inside: Inside, axis_at, z: np.ndarray, outward: float) -> np.ndarray:
    """The point inside the bone that stands out most; looked for from without, so that the inside is never asked."""
    step = np.arange(-40.0, 40.1, 0.75)
    middle = axis_at(z).T  # (levels, 3)
    points = middle[:, None, None] + np.stack(np.meshgrid(step, step, [0.0]), axis=-1)[None, :, :, 0]
    protrusion = ((points - middle[:, None, None])[..., :2] @ _behind_and_inward(outward)).ravel()
    flat, upper = points.reshape(-1, 3), np.inf
    for lower in (*np.arange(protrusion.max() - 8, protrusion.min(), -4.0), -np.inf):
        band = np.flatnonzero((protrusion > lower) & (protrusion <= upper))
        inside = band[is_inside(flat[band])]
        if inside.size:
            return np.array(flat[inside[np.argmax(protrusion[inside])]])
        upper = lower
    return np.array(flat[0])


def _find_narrowest_section(is_inside: Inside, head_mm, towards_mm, radius_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Middle of the neck's narrowest section and the unit vector from the head's centre to it, found together."""
    step = np.arange(-30.0, 30.1)
    normal = (towards_mm - head_mm) / np.linalg.norm(towards_mm - head_mm)
    neck = towards_mm
    for _ in range(8):
        across = np.cross(normal, (0, 1.0, 0))
        across /= np.linalg.norm(across)
        plane = step[:, None, None] * across + step[None, :, None] * np.cross(normal, across)
        along = np.arange(0.8 * radius_mm, 46.0, 0.75)
        points = head_mm + along[:, None, None, None] * normal + plane
        sections = _keep_middle_parts(is_inside, points)
        areas = [section.sum() or np.inf for section in sections]
        best = int(np.argmin(areas))
        neck = points[best][sections[best]].mean(axis=0)
        normal = normal + (neck - head_mm) / np.linalg.norm(neck - head_mm)
        normal /= np.linalg.norm(normal)
    return neck, normal


def _find_exit(is_inside: Inside, start: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Where a straight line from inside leaves the bone."""
    run = np.arange(0.0, 45.0, 0.1)
    outside = ~is_inside(start + run[:, None] * way)
    return start + run[np.argmax(outside)] * way if outside.any() else np.full(3, np.nan)


def _keep_middle_parts(is_inside: Inside, points: np.ndarray) -> np.ndarray:
    """The part about the middle of each section, bool; the largest part where the middle lies outside.

    Args:
        is_inside: Says of points whether they lie inside.
        points: (sections, rows, columns, 3), LPS, mm.
    """
    rows, columns = points.shape[1:3]
    window = (slice(None), slice(rows // 6, rows - rows // 6), slice(columns // 6, columns - columns // 6))
    sections = np.zeros(points.shape[:3], bool)
    sections[window] = is_inside(points[window])
    for n, near in enumerate(sections[window]):
        part = _keep_middle_part(near)
        if near[near.shape[0] // 2, near.shape[1] // 2] and not _touches_border(part):
            sections[n][window[1:]] = part  # the same in the whole section
        else:
            sections[n] = _keep_middle_part(is_inside(points[n]))
    return sections


def _touches_border(part: np.ndarray) -> bool:
    return bool(part[[0, -1]].any() or part[:, [0, -1]].any())


def _keep_middle_part(inside: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(inside)
    here = parts[inside.shape[0] // 2, inside.shape[1] // 2]
    return parts == here if here else keep_largest_component(inside)
