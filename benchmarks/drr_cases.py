"""Volumes and views of the DRR benchmark; the line integrals of one are known in closed form."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.pose import standard_view

FULL = Grid((300, 512, 512), (0.7, 0.7, 1.0), (-178.85, -178.85, -149.5), np.eye(3))
CROP = Grid((170, 128, 128), (1.5, 1.5, 1.5), (-95.25, -95.25, -126.75), np.eye(3))
FULL_CAMERA = ProjectionGeometry(1200, 1, 1, 256, 512)
CROP_CAMERA = ProjectionGeometry(1000, 4, 4, 64, 128)


def lumps(grid: Grid, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (n, 3) and widths (n,), mm, and heights (n,) of Gaussians well inside a grid."""
    rng = np.random.default_rng(seed)
    extent = grid.spacing_mm * grid.shape[::-1]
    centres = rng.uniform(-0.28, 0.28, (40, 3)) * extent
    return centres, rng.uniform(8, 24, 40), rng.uniform(0.2, 1.0, 40)


def gaussians(grid: Grid, centres: np.ndarray, widths: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Their sum on the grid, float32, the outermost voxels 0; made slice by slice."""
    axes = [grid.origin_mm[i] + grid.spacing_mm[i] * np.arange(grid.shape[2 - i]) for i in range(3)]
    x, y, z = (np.exp(-(((axis - centres[:, i, None]) / widths[:, None]) ** 2)) for i, axis in enumerate(axes))
    values = np.zeros(grid.shape, np.float32)
    for k in range(1, grid.shape[0] - 1):
        plane = (y * (heights * z[:, k])[:, None]).T @ x
        values[k, 1:-1, 1:-1] = np.maximum(plane[1:-1, 1:-1], 1e-6)
    return values


def closed_form(camera: ProjectionGeometry, pose: RigidTransform, lumps_: tuple) -> np.ndarray:
    """Exact line integrals of the Gaussians."""
    v, u = np.indices(camera.shape)
    ends = camera.unproject(np.stack([u, v], axis=-1), camera.sdd_mm)
    directions = ends / np.linalg.norm(ends, axis=-1, keepdims=True)
    image = np.zeros(camera.shape)
    for centre, width, height in zip(*lumps_, strict=True):
        at = pose.apply(centre)
        along = directions @ at
        image += height * width * np.sqrt(np.pi) * np.exp(-(at @ at - along**2) / width**2)
    return image


def bone(grid: Grid) -> np.ndarray:
    """Much like half a pelvis and a femur: a curved shell, a ball, a neck and a hollow shaft; 6 % of the voxels."""
    z, y, x = np.indices(grid.shape)
    p = np.stack([x, y, z], axis=-1) * grid.spacing_mm + grid.origin_mm
    shell = np.abs(np.linalg.norm(p - (40, 0, 60), axis=-1) - 75) < 5
    shell &= (p[..., 0] < 55) & (p[..., 2] > -20)
    ball = np.linalg.norm(p - (-30, 0, 0), axis=-1) < 24
    off = p - np.array([-30, 0, 0])
    axis = np.array([-0.6, 0.1, -0.8]) / np.linalg.norm([-0.6, 0.1, -0.8])
    along = off @ axis
    neck = (np.linalg.norm(off - along[..., None] * axis, axis=-1) < 14) & (along > 0) & (along < 60)
    radius = np.hypot(p[..., 0] + 66, p[..., 1] - 6)
    shaft = (radius < 16) & (radius > 7) & (p[..., 2] < -40)
    inside = shell | ball | neck | shaft
    return (inside * (300 + 200 * np.sin(x / 3.0) * np.cos(y / 4.0))).astype(np.float32)


def around(grid: Grid, camera: ProjectionGeometry, count: int) -> list[RigidTransform]:
    """Views from all around, tilted a little."""
    rng, base = np.random.default_rng(1), standard_view("ap", grid.centre(), camera)
    angles = [(180 * n / count, *rng.uniform(-10, 10, 2)) for n in range(count)]
    turns = [Rotation.from_euler("ZYX", angle, degrees=True).as_matrix() for angle in angles]
    return [base @ RigidTransform.about(grid.centre(), turn) for turn in turns]


def nearby(grid: Grid, camera: ProjectionGeometry, count: int) -> list[RigidTransform]:
    """The population of a registration: a few degrees and millimetres about one view."""
    rng, base = np.random.default_rng(2), standard_view("ap", grid.centre(), camera)
    turns = Rotation.from_euler("ZYX", rng.normal(0, 6, (count, 3)), degrees=True).as_matrix()
    moves = rng.normal(0, 5, (count, 3))
    return [base @ RigidTransform.about(grid.centre(), *motion) for motion in zip(turns, moves, strict=True)]
