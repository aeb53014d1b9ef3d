"""The target images: projections of bones and of the proximal femur, as the radiograph's own pixels would see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.units import MG_CM3_MM_TO_G_CM2
from bmdkit.core.volume import Volume, bounding_box
from bmdkit.drr.channels import Channels
from bmdkit.drr.reference import find_hits
from bmdkit.drr.render import render


@dataclass(frozen=True, eq=False)
class Region:
    """What is projected: a density, or HU in its place, and the voxels that it belongs to.

    Attributes:
        density: One channel, mg/cm3 or HU inside and 0 outside.
        outline: One channel on the same grid, 1 inside and 0 outside.
    """

    density: Channels
    outline: Channels


def cut_region(density: Volume, mask: np.ndarray, grid: Grid, name: str) -> Region:
    """The density (or the HU) inside a mask, cropped to it.

    Args:
        density: mg/cm3, or HU where targets are uncalibrated; linearly interpolated at the voxels of `grid` where its
            own grid is another.
        mask: bool, on `grid`, not empty.
        grid: Grid of the mask's voxels.
        name: Name of the region.

    Raises:
        ValueError: The volume holds neither.
    """
    if density.quantity not in ("density_mg_cm3", "hu"):
        raise ValueError(f"density: expected density_mg_cm3 or hu, got {density.quantity}")
    box = bounding_box(mask, 1)
    cropped = grid.crop(box)
    values = density.resample(cropped).array
    inside = np.where(mask[box], values, 0)[None]
    return Region(Channels(inside, cropped, (name,)), Channels(mask[box][None], cropped, (name,)))


def project_region(
    region: Region, camera_from_ct: RigidTransform, geometry: ProjectionGeometry, *, device: str = "cpu"
) -> np.ndarray:
    """Line integral through one region in every pixel of the radiograph.

    Values are interpolated (Joseph), which keeps the voxels' edges from showing as stripes; they end where the rays
    through the region's voxels end, each voxel a box (Siddon), because an interpolated outline would be half a voxel
    too wide and lower the mean.

    Args:
        region: Region from `cut_region`.
        camera_from_ct: Pose of the bone.
        geometry: Camera of the radiograph, at full resolution.
        device: Device of the interpolating renderer.

    Returns:
        (rows, columns), float32, g/cm2 of a density and 1000 HU cm of HU; 0 where the region does not project.

    Raises:
        GeometryError: The region reaches behind the source.
    """
    image = np.zeros(geometry.shape, np.float32)
    row, column, rows, columns = find_shadow_window(region.outline.grid, camera_from_ct, geometry)
    if rows < 1 or columns < 1:
        return image
    window = geometry.cropped(row=row, column=column, rows=rows, columns=columns)
    values = render(region.density, [camera_from_ct], window, device=device)[0, 0]
    hit = find_hits(region.outline, camera_from_ct, window, values != 0)
    image[row : row + rows, column : column + columns] = np.where(hit, values, 0) * np.float32(MG_CM3_MM_TO_G_CM2)
    return image


def find_shadow_window(
    grid: Grid, camera_from_ct: RigidTransform, geometry: ProjectionGeometry
) -> tuple[int, int, int, int]:
    """First row, first column, rows, columns of the image in which anything of `grid` can project; empty: 0 rows.

    Raises:
        GeometryError: The grid reaches behind the source.
    """
    ends = np.array([[-1.0, n] for n in grid.shape])
    corners = grid.points(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3))
    uv = geometry.project(corners, camera_from_world=camera_from_ct)
    first = np.clip(np.floor(uv.min(axis=0)), 0, (geometry.columns, geometry.rows)).astype(int)
    last = np.clip(np.ceil(uv.max(axis=0)) + 1, 0, (geometry.columns, geometry.rows)).astype(int)
    columns, rows = np.maximum(last - first, 0)
    return int(first[1]), int(first[0]), int(rows), int(columns)


def measure_projected_mean(image: np.ndarray) -> float:
    """Mean over the pixels where a region projects, those above 0.

    Raises:
        GeometryError: There is none.
    """
    hit = image > 0
    if not hit.any():
        raise GeometryError("image: expected a pixel where the region projects, got none")
    return float(image[hit].mean(dtype=np.float64))
