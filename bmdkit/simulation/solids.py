"""Implicit solids: smooth unions of rounded triangles, with a depth that is exact at their surface.

A rounded triangle is every point closer to a triangle than a radius that varies over it. Its degenerate forms are a
ball (three equal corners) and a tapered rod (two equal corners), so one primitive makes shafts, heads and thin blades.
Depth is the signed distance to the surface, mm, positive inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike
from scipy import ndimage

from bmdkit.core.grid import Grid, frozen
from bmdkit.core.volume import bounding_box

REACH_MM = 12.0
"""Depths on a grid are clipped to plus and minus this."""


@dataclass(frozen=True, eq=False)
class Solid:
    """Rounded triangles, joined in their order; those that carve take material away from what came before.

    Attributes:
        corners_mm: Corners of the triangles, (n, 3, 3): triangle, corner, LPS.
        radii_mm: Radii at the corners, (n, 3).
        blend_mm: Widths over which each is melted into the rest, (n,).
        carves: Whether each takes material away, (n,), bool.
    """

    corners_mm: np.ndarray
    radii_mm: np.ndarray
    blend_mm: np.ndarray
    carves: np.ndarray

    def __post_init__(self) -> None:
        """Check the shapes of the arrays."""
        for name, kind in (("corners_mm", float), ("radii_mm", float), ("blend_mm", float), ("carves", bool)):
            object.__setattr__(self, name, frozen(np.array(getattr(self, name), dtype=kind)))
        count = len(self.corners_mm)
        expected = {"corners_mm": (count, 3, 3), "radii_mm": (count, 3), "blend_mm": (count,), "carves": (count,)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {getattr(self, name).shape}")

    def __add__(self, other: Solid) -> Solid:
        """Join another solid to this one, after it."""
        names = ("corners_mm", "radii_mm", "blend_mm", "carves")
        return Solid(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Solid:
        """With every corner taken through `move`, which maps points (m, 3), mm; the radii stay."""
        corners = move(self.corners_mm.reshape(-1, 3)).reshape(-1, 3, 3)
        return Solid(corners, self.radii_mm, self.blend_mm, self.carves)

    def mirrored(self) -> Solid:
        """The same on the other side of the plane x = 0."""
        return self.moved(lambda points: points * (-1, 1, 1))

    def carving(self) -> Solid:
        """The same shape, taking away instead of adding."""
        return Solid(self.corners_mm, self.radii_mm, self.blend_mm, np.ones(len(self.carves), bool))

    def depth(self, points_mm: np.ndarray) -> np.ndarray:
        """Depth of points (..., 3), mm, clipped to the reach."""
        points = np.asarray(points_mm, float)
        flat = np.ascontiguousarray(points.reshape(-1, 3))
        found = _measure_depth(flat, self.corners_mm, self.radii_mm, self.blend_mm, self.carves, REACH_MM, False)
        return found.reshape(points.shape[:-1])

    def inside(self, points_mm: np.ndarray) -> np.ndarray:
        """Whether points (..., 3), mm, lie inside: where `depth` is above 0, at less cost."""
        points = np.asarray(points_mm, float)
        flat = np.ascontiguousarray(points.reshape(-1, 3))
        parts = (self.corners_mm, self.radii_mm, self.blend_mm, self.carves, REACH_MM)
        found = _measure_depth(flat, *parts, not self.carves.any())
        return found.reshape(points.shape[:-1]) > 0

    def depth_on(self, grid: Grid) -> np.ndarray:
        """Depth at the voxel centres of an axis-aligned grid, float32 [slice, row, column], exact near the surface.

        Deep inside, where the union of primitives understates it, the distance transform of the voxels takes over.
        """
        low = (self.corners_mm - self.radii_mm[..., None]).reshape(-1, 3).min(0) - REACH_MM
        high = (self.corners_mm + self.radii_mm[..., None]).reshape(-1, 3).max(0) + REACH_MM
        first = np.floor((low - grid.origin_mm) / grid.spacing_mm)[::-1]
        last = np.ceil((high - grid.origin_mm) / grid.spacing_mm)[::-1] + 1
        size = np.array(grid.shape)
        start, stop = np.clip(first, 0, size).astype(int), np.clip(last, 0, size).astype(int)
        depth = np.full(grid.shape, -REACH_MM, np.float32)
        if (stop <= start).any():
            return depth
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        part = np.full(tuple(stop - start), -REACH_MM, np.float32)
        origin = grid.origin_mm + start[::-1] * grid.spacing_mm
        _fill(part, origin, grid.spacing_mm, self.corners_mm, self.radii_mm, self.blend_mm, self.carves, REACH_MM)
        depth[box] = _deepen(part, grid.spacing_mm[::-1])
        return depth


def _deepen(depth: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Depth with the distance to the surface by voxels where that is larger; changed in place where any is inside.

    A voxel's nearest one outside lies in the box of the inside grown by one: what is farther out is farther off.
    """
    inside = depth > 0
    if not inside.any():
        return depth
    box = bounding_box(inside, 1)
    near, part = inside[box], depth[box]
    within = ndimage.distance_transform_edt(np.pad(near, 1, mode="edge"), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    within = np.minimum(within, REACH_MM) - np.linalg.norm(spacing_mm) / 2  # never more than the true depth
    depth[box] = np.where(near, np.maximum(part, within), part)
    return depth


def ball(centre_mm: ArrayLike, radius_mm: float, blend_mm: float = 2.0) -> Solid:
    """A sphere."""
    corners = np.broadcast_to(np.asarray(centre_mm, float), (1, 3, 3))
    return Solid(corners, np.full((1, 3), radius_mm), np.array([blend_mm]), np.array([False]))


def tube(points_mm: ArrayLike, radii_mm: ArrayLike, blend_mm: float = 4.0) -> Solid:
    """Tapered rods from point to point; blends are given once for all."""
    points = np.asarray(points_mm, float)
    radii = np.broadcast_to(np.asarray(radii_mm, float), len(points))
    corners = np.stack([points[:-1], points[1:], points[1:]], axis=1)
    return _make_adding(corners, np.stack([radii[:-1], radii[1:], radii[1:]], axis=1), blend_mm)


def sheet(points_mm: np.ndarray, radii_mm: np.ndarray | float, blend_mm: float = 2.0) -> Solid:
    """A blade over a net of points (rows, columns, 3), its half thickness given at each of them."""
    net = np.asarray(points_mm, float)
    radii = np.broadcast_to(np.asarray(radii_mm, float), net.shape[:2])
    corners, sizes = [], []
    for pick in ((slice(None, -1), slice(None, -1)), (slice(1, None), slice(1, None))):
        three = [pick, (slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))]
        corners.append(np.stack([net[i] for i in three], axis=2).reshape(-1, 3, 3))
        sizes.append(np.stack([radii[i] for i in three], axis=2).reshape(-1, 3))
    return _make_adding(np.concatenate(corners), np.concatenate(sizes), blend_mm)


def refine(net: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A net of values (m, n, ...) resampled smoothly to (rows, columns, ...) by cubic splines through its knots."""
    for axis, count in ((0, rows), (1, columns)):
        at = np.linspace(0, net.shape[axis] - 1, count)
        spline = _fit_natural_spline(net.shape[axis], at)
        net = np.moveaxis(np.tensordot(spline, net, axes=(1, axis)), 0, axis)
    return net


def union(parts: Sequence[Solid]) -> Solid:
    """All parts in their order."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def _fit_natural_spline(count: int, at: np.ndarray) -> np.ndarray:
    from scipy.interpolate import CubicSpline

    return CubicSpline(np.arange(count), np.eye(count), bc_type="natural" if count > 2 else "not-a-knot")(at)


def _make_adding(corners: np.ndarray, radii: np.ndarray, blend_mm: float) -> Solid:
    return Solid(corners, radii, np.full(len(corners), blend_mm), np.zeros(len(corners), bool))


@njit(cache=True)
def _is_rod(corners, radii):
    """Whether the last two corners are one."""
    return radii[1] == radii[2] and (corners[1] == corners[2]).all()


@njit(cache=True, inline="always")
def _inside_rod(px, py, pz, corners, radii):
    """What `_inside_triangle` gives for two equal corners, to the bit."""
    abx, aby, abz = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1], corners[1, 2] - corners[0, 2]
    apx, apy, apz = px - corners[0, 0], py - corners[0, 1], pz - corners[0, 2]
    d1 = abx * apx + aby * apy + abz * apz
    d3 = d1 - (abx * abx + aby * aby + abz * abz)
    v = 0.0
    if d1 > 0:
        v = 1.0 if d3 >= 0 else d1 / (d1 - d3)
    dx, dy, dz = apx - v * abx, apy - v * aby, apz - v * abz
    return radii[0] * (1.0 - v) + radii[1] * v - np.sqrt(dx * dx + dy * dy + dz * dz)


@njit(cache=True, inline="always")
def _inside_triangle(px, py, pz, corners, radii):
    """Radius at the closest point of the triangle, less the distance to it. Source: Ericson 2005, section 5.1.5."""
    abx, aby, abz = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1], corners[1, 2] - corners[0, 2]
    acx, acy, acz = corners[2, 0] - corners[0, 0], corners[2, 1] - corners[0, 1], corners[2, 2] - corners[0, 2]
    apx, apy, apz = px - corners[0, 0], py - corners[0, 1], pz - corners[0, 2]
    d1 = abx * apx + aby * apy + abz * apz
    d2 = acx * apx + acy * apy + acz * apz
    bb = abx * abx + aby * aby + abz * abz
    cc = acx * acx + acy * acy + acz * acz
    bc = abx * acx + aby * acy + abz * acz
    d3, d4 = d1 - bb, d2 - bc
    d5, d6 = d1 - bc, d2 - cc
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    v = w = 0.0
    if d1 <= 0 and d2 <= 0:
        pass
    elif d3 >= 0 and d4 <= d3:
        v = 1.0
    elif d6 >= 0 and d5 <= d6:
        w = 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        v = d1 / (d1 - d3)
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        w = d2 / (d2 - d6)
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        w = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        v = 1.0 - w
    else:
        total = va + vb + vc
        v, w = vb / total, vc / total
    dx, dy, dz = apx - v * abx - w * acx, apy - v * aby - w * acy, apz - v * abz - w * acz
    radius = radii[0] * (1.0 - v - w) + radii[1] * v + radii[2] * w
    return radius - np.sqrt(dx * dx + dy * dy + dz * dz)


@njit(cache=True, inline="always")
def _join(depth, part, blend, carve, reach):
    if depth <= -reach:  # nothing is near yet
        return depth if carve else part
    if carve:
        depth = -depth
    larger = max(depth, part)
    overlap = blend - abs(depth - part)
    if overlap > 0:
        larger += overlap * overlap / (4.0 * blend)
    return -larger if carve else larger


@njit(cache=True, parallel=True)
def _fill(out, origin, spacing, corners, radii, blend, carves, reach):
    slices, rows, columns = out.shape
    for k in prange(slices):
        z = origin[2] + k * spacing[2]
        for n in range(len(corners)):
            grow = max(radii[n, 0], radii[n, 1], radii[n, 2]) + reach
            if z < corners[n, :, 2].min() - grow or z > corners[n, :, 2].max() + grow:
                continue
            i0 = max(int((corners[n, :, 0].min() - grow - origin[0]) / spacing[0]), 0)
            i1 = min(int((corners[n, :, 0].max() + grow - origin[0]) / spacing[0]) + 1, columns - 1)
            j0 = max(int((corners[n, :, 1].min() - grow - origin[1]) / spacing[1]), 0)
            j1 = min(int((corners[n, :, 1].max() + grow - origin[1]) / spacing[1]) + 1, rows - 1)
            is_rod = _is_rod(corners[n], radii[n])
            for j in range(j0, j1 + 1):
                y = origin[1] + j * spacing[1]
                for i in range(i0, i1 + 1):
                    x = origin[0] + i * spacing[0]
                    if is_rod:
                        part = _inside_rod(x, y, z, corners[n], radii[n])
                    else:
                        part = _inside_triangle(x, y, z, corners[n], radii[n])
                    if part > -reach:
                        joined = _join(out[k, j, i], part, blend[n], carves[n], reach)
                        out[k, j, i] = min(max(joined, -reach), reach)


@njit(cache=True, parallel=True)
def _measure_depth(points, corners, radii, blend, carves, reach, sign_only):
    """Depth of points (n, 3); with `sign_only`, of a solid that nothing carves, any depth above 0 for those inside."""
    out = np.full(len(points), -reach)
    low, high = np.empty((len(corners), 3)), np.empty((len(corners), 3))
    is_rod = np.empty(len(corners), np.bool_)
    for n in range(len(corners)):
        grow = max(radii[n, 0], radii[n, 1], radii[n, 2]) + reach
        is_rod[n] = _is_rod(corners[n], radii[n])
        for i in range(3):
            low[n, i], high[n, i] = corners[n, :, i].min() - grow, corners[n, :, i].max() + grow
    for m in prange(len(points)):
        x, y, z = points[m, 0], points[m, 1], points[m, 2]
        for n in range(len(corners)):
            if not (low[n, 0] <= x <= high[n, 0] and low[n, 1] <= y <= high[n, 1] and low[n, 2] <= z <= high[n, 2]):
                continue  # too far from this primitive to be within its reach
            if is_rod[n]:
                part = _inside_rod(x, y, z, corners[n], radii[n])
            else:
                part = _inside_triangle(x, y, z, corners[n], radii[n])
            if part > -reach:
                out[m] = min(max(_join(out[m], part, blend[n], carves[n], reach), -reach), reach)
                if sign_only and out[m] > 0:
                    break  # what is added later takes nothing away
    return out
