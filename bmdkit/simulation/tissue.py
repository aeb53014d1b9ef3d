"""Bone mineral and soft tissue that fill an anatomy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import SIDES, STRUCTURES, Side
from bmdkit.core.volume import Grid, bounding_box
from bmdkit.simulation.procedural_anatomy import Anatomy

CORTICAL_MG_CM3 = 980.0
FAT_MARROW_HU = -75.0
"""What marrow of the shaft shows beyond its mineral, HU."""


@dataclass(frozen=True, eq=False)
class Tissue:
    """What the scanner and the X-rays see; all arrays on the anatomy's grid.

    Attributes:
        mineral: Structure -> hydroxyapatite, mg/cm3, float32; partly filled voxels at the surface hold their share.
        bone_share: Structure -> share of the voxel that is bone, float32.
        fat_marrow: Share of the voxel that is fat marrow, float32.
        soft_hu: Everything as it would be without bone and without bowel gas, HU, float32; air is -1000.
        gas: Bowel gas at the time of the CT, bool.
        mineral_factor: 1 is the average adult's.
    """

    mineral: dict[str, np.ndarray]
    bone_share: dict[str, np.ndarray]
    fat_marrow: np.ndarray
    soft_hu: np.ndarray
    gas: np.ndarray
    mineral_factor: float

    def density(self) -> np.ndarray:
        """Mineral of all bones, mg/cm3, float32."""
        return np.asarray(np.sum(list(self.mineral.values()), axis=0, dtype=np.float32))


def fill_tissue(anatomy: Anatomy, rng: np.random.Generator, mineral_factor: float | None = None) -> Tissue:
    """Fill an anatomy with random tissue.

    Args:
        anatomy: Shapes of the patient.
        rng: Random generator of the patient.
        mineral_factor: Factor of the mineral; drawn between 0.45 and 1.4 if not given.
    """
    drawn = float(np.clip(rng.normal(0.88, 0.22), 0.45, 1.4))
    factor = drawn if mineral_factor is None else float(mineral_factor)
    mineral, share = {}, {}
    fat = np.zeros(anatomy.grid.shape, np.float32)
    for name in STRUCTURES:
        mineral[name], share[name] = _fill_bone(anatomy, name, factor, fat, rng)
    soft = _draw_soft_tissue(anatomy, rng)
    return Tissue(mineral, share, fat, soft, draw_bowel_gas(anatomy, soft, rng), factor)


def draw_bowel_gas(anatomy: Anatomy, soft_hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw where gas is in the bowel at one time: a few loops in the pelvis, bool."""
    hip = anatomy.hip_centre()
    gas = np.zeros(anatomy.grid.shape, bool)
    for _ in range(rng.integers(4, 9)):
        centre = np.add(hip, (rng.normal(0, 36), rng.normal(5, 16), rng.uniform(25, 150)))
        if rng.random() < 0.25:
            centre = np.add(hip, (rng.normal(0, 8), 42, rng.uniform(5, 30)))  # rectum
        for _ in range(rng.integers(2, 6)):
            half = rng.uniform(5, 13, 3)
            _paint_ball(gas, anatomy.grid, centre, half)
            centre = centre + rng.normal(0, 9, 3)
    return gas & (soft_hu > -150) & (anatomy.depths["body"] > 25) & (_measure_bone_depth(anatomy) < -3)


def _fill_bone(anatomy: Anatomy, name: str, factor: float, fat: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    depth_all, grid = anatomy.depths[name], anatomy.grid
    mineral, share = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    step = float(grid.spacing_mm[0])
    if not (depth_all > -step).any():
        return mineral, share
    box = bounding_box(depth_all > -step, 1)
    depth, local = depth_all[box], grid.crop(box)
    texture, drift = draw_smooth_noise(depth.shape, 1.6 / step, rng), draw_smooth_noise(depth.shape, 14.0 / step, rng)
    z = (local.origin_mm[2] + np.arange(depth.shape[0], dtype=np.float32) * step)[:, None, None]
    shell: np.ndarray | float
    spongy: np.ndarray | float
    shaft: np.ndarray | float
    sclerosis: np.ndarray | float = 0.0
    if name in ("femur_L", "femur_R"):
        shell, spongy, shaft = _describe_femur_inside(anatomy, "L" if name == "femur_L" else "R", local, z)
    else:
        shell, shaft = (1.5, 0.0) if name == "pelvis" else (0.9, 0.0)
        spongy = 185.0 if name == "pelvis" else 150.0
        sclerosis = _find_subchondral(anatomy, local) if name == "pelvis" else 0.0
    shell = shell * (0.7 + 0.3 * factor)
    cortical = 1 / (1 + np.exp(np.clip((depth - shell) / 0.6, -30, 30)))
    cortical = np.maximum(cortical, sclerosis)
    trabecular = np.clip(spongy * factor * (1 + 0.2 * texture + 0.13 * drift), 5, None) * (1 - 0.94 * shaft)
    filled = np.clip(depth / step + 0.5, 0, 1)
    dense = CORTICAL_MG_CM3 * (0.85 + 0.15 * factor) * (1 + 0.03 * drift)
    mineral[box] = filled * (cortical * dense + (1 - cortical) * trabecular)
    share[box] = filled
    fat[box] += filled * (1 - cortical) * shaft
    return mineral, share


def _describe_femur_inside(
    anatomy: Anatomy, side: Side, local: Grid, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thickness of the cortex (mm), density of the spongy bone (mg/cm3) and share of canal in a femur."""
    head, lesser = anatomy.heads_mm[side], anatomy.lesser_mm[side]
    shaft = np.clip((lesser[2] + 12 - z) / 45, 0, 1)
    shaft = shaft * shaft * (3 - 2 * shaft)
    y = (local.origin_mm[1] + np.arange(local.shape[1], dtype=np.float32) * local.spacing_mm[1])[None, :, None]
    x = (local.origin_mm[0] + np.arange(local.shape[2], dtype=np.float32) * local.spacing_mm[0])[None, None, :]
    outward = 1.0 if side == "L" else -1.0
    radius = anatomy.head_radii_mm[side]
    from_head = np.sqrt((x - head[0]) ** 2 + (y - head[1]) ** 2 + (z - head[2]) ** 2)
    # principal compressive group: from the calcar, above the lesser trochanter, to the top of the head
    low = np.array([lesser[0] + outward * 2, lesser[1] - 8, lesser[2] + 14])
    high = np.add(head, (0, 0, 0.8 * radius))
    way = (high - low) / np.linalg.norm(high - low)
    along = (x - low[0]) * way[0] + (y - low[1]) * way[1] + (z - low[2]) * way[2]
    square = (x - low[0]) ** 2 + (y - low[1]) ** 2 + (z - low[2]) ** 2 - along**2
    spread = 8.0 + 5.0 * np.clip(along / 60.0, 0, 1)
    compressive = np.exp(-square / (2 * spread**2)) * np.clip(along / 10, 0, 1)
    trochanter = np.clip((outward * (x - head[0]) - 30) / 25, 0, 1)
    spongy = 180 + 120 * compressive + 60 * np.exp(-((from_head / radius) ** 2)) - 75 * trochanter
    neck = np.clip((from_head - radius) / 20, 0, 1)
    shell = 1.4 + 1.1 * neck * (1 - 0.6 * trochanter) + 4.4 * shaft
    return shell, spongy.astype(np.float32), np.broadcast_to(shaft, local.shape).astype(np.float32)


def _find_subchondral(anatomy: Anatomy, local: Grid) -> np.ndarray:
    """Share of dense bone in the roof of the sockets, where the load goes through."""
    dense = np.zeros(local.shape, np.float32)
    k, j, i = (np.arange(n, dtype=np.float32) for n in local.shape)
    for side in SIDES:
        head, outward = anatomy.heads_mm[side], 1.0 if side == "L" else -1.0
        z = (local.origin_mm[2] + k * local.spacing_mm[2] - head[2])[:, None, None]
        y = (local.origin_mm[1] + j * local.spacing_mm[1] - head[1])[None, :, None]
        x = (local.origin_mm[0] + i * local.spacing_mm[0] - head[0])[None, None, :] * outward
        distance = np.sqrt(x**2 + y**2 + z**2)
        load = np.clip((z * 0.93 + x * 0.3) / np.maximum(distance, 1) * 1.8 - 0.75, 0, 1)
        thick = anatomy.head_radii_mm[side] + 3.0 + 4.5 * load
        dense = np.maximum(dense, 0.75 * load / (1 + np.exp(np.clip((distance - thick) / 0.7, -30, 30))))
    return dense


def _draw_soft_tissue(anatomy: Anatomy, rng) -> np.ndarray:
    """Fat, muscle with its septa, and the contents of the pelvis, HU."""
    grid, body = anatomy.grid, anatomy.depths["body"]
    step = grid.spacing_mm[0]
    coarse, fine = draw_smooth_noise(grid.shape, 22.0 / step, rng), draw_smooth_noise(grid.shape, 7.0 / step, rng)
    layer = rng.uniform(9, 24)
    bone = _measure_bone_depth(anatomy)
    if "muscle" in anatomy.depths:
        muscle = anatomy.depths["muscle"] > 0
    else:
        septa = draw_smooth_noise(grid.shape, (70.0 / step, 17.0 / step, 17.0 / step), rng)  # muscles run up and down
        muscle = (body > layer * (1 + 0.22 * coarse)) & (np.abs(septa) > 0.1) & (fine < 2.1)
    muscle |= bone > -3.0  # muscle and capsule lie on the bones
    soft = np.where(body > 0, -98 + 7 * coarse, -1000.0).astype(np.float32)
    soft[(body > 0) & (body < 2.0)] = 20.0  # skin
    soft = np.where(muscle & (body > 0), 52 + 5 * coarse + 4 * fine, soft)
    cavity = _find_cavity(anatomy)
    soft = np.where(cavity, np.where(fine + 0.5 * coarse > 0.25, 34 + 5 * coarse, -88 + 8 * fine), soft)
    hip = anatomy.hip_centre()
    bladder = np.zeros(grid.shape, bool)
    middle = np.add(hip, (rng.normal(0, 4), -16, rng.uniform(16, 26)))
    _paint_ball(bladder, grid, middle, rng.uniform((26, 20, 18), (42, 30, 30)))
    soft = np.where(bladder & cavity, 6.0, soft)
    return np.where(bone > -0.75, 35.0, soft).astype(np.float32)


def _find_cavity(anatomy: Anatomy) -> np.ndarray:
    """The inside of the pelvis and the belly, where no muscle is drawn."""
    grid, hip = anatomy.grid, anatomy.hip_centre()
    half = abs(anatomy.heads_mm["L"][0] - anatomy.heads_mm["R"][0]) / 2
    k, j, i = (np.arange(n, dtype=np.float32) for n in grid.shape)
    z = grid.origin_mm[2] + k * grid.spacing_mm[2] - hip[2]
    y = grid.origin_mm[1] + j * grid.spacing_mm[1] - hip[1]
    x = grid.origin_mm[0] + i * grid.spacing_mm[0] - hip[0]
    levels = (-42, -36, -20, 0, 45, 110, 180)
    across = np.interp(z, levels, (0.05, 0.22, 0.45, 0.58, 0.75, 1.1, 1.3)) * half
    deep = np.interp(z, levels, (3, 14, 30, 42, 56, 60, 60))
    middle = np.interp(z, levels, (4, 4, 4, 8, 2, -22, -34))
    inside = (x[None, None] / across[:, None, None]) ** 2 + ((y[None] - middle[:, None]) / deep[:, None])[
        ..., None
    ] ** 2 < 1
    return inside & (z > -42)[:, None, None] & (anatomy.depths["body"] > 16)


def _measure_bone_depth(anatomy: Anatomy) -> np.ndarray:
    return np.maximum.reduce([anatomy.depths[name] for name in STRUCTURES])


def _paint_ball(mask: np.ndarray, grid, centre_mm, half_mm) -> None:
    """Set the voxels of an ellipsoid, in place."""
    low = np.floor(grid.indices(np.asarray(centre_mm) - half_mm)).astype(int)
    high = np.ceil(grid.indices(np.asarray(centre_mm) + half_mm)).astype(int) + 1
    low, high = np.clip(low, 0, mask.shape), np.clip(high, 0, mask.shape)
    if (high <= low).any():
        return
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    where = grid.crop(box).points(
        np.stack(np.meshgrid(*[np.arange(b - a) for a, b in zip(low, high, strict=True)], indexing="ij"), axis=-1)
    )
    mask[box] |= (((where - centre_mm) / half_mm) ** 2).sum(-1) < 1


def draw_smooth_noise(shape: tuple[int, ...], length: float | tuple[float, ...], rng) -> np.ndarray:
    """A smooth random field of unit variance, float32; its features are about `length` voxels wide along each axis."""
    factor = np.maximum(np.broadcast_to(length, 3) / 1.5, 1.0)
    coarse = rng.standard_normal([int(n / f) + 4 for n, f in zip(shape, factor, strict=True)], dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, 1.0)
    coarse /= coarse.std()
    for axis, (size, f) in enumerate(zip(shape, factor, strict=True)):  # linear interpolation, one axis after the other
        at = 1.0 + np.arange(size) / f
        low = at.astype(int)
        part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        coarse = np.take(coarse, low, axis) * (1 - part) + np.take(coarse, low + 1, axis) * part
    return coarse
