"""The inside of the bones: cortex, spongy bone, canal, and the mineral that they hold at a given factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.grid import Grid
from bmdkit.simulation.finer_voxels import average_parts, find_box, refine_depth
from bmdkit.simulation.noise import draw_smooth_noise
from bmdkit.simulation.population import USUAL_PERSON, Person
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.true_bmd import FineFemur

CORTICAL_MG_CM3 = 980.0
_LEAST_SPONGY_MG_CM3 = 20.0
_THIN = 0.3
"""Factor below which the cortex grows thin in proportion."""
_MOST_MM = 1.5
"""Voxels of the inside of the bones, at most: in coarser ones the cortex is blurred, and looks like more bone."""
_SOCKET_MM = 14.0
"""How far beyond the surface of the head the dense bone of the socket reaches at most."""
_EDGE_MM = 0.6
"""Over how much depth cortex gives way to spongy bone."""
_FACTORS = (0.05, 4.0)
"""Least and largest factor of mineral that a wanted BMD may need."""


@dataclass(frozen=True, eq=False)
class BoneInside:
    """What one bone is made of, whatever the mineral, on voxels of its own that are as fine as its cortex asks for.

    Attributes:
        box: Where in the anatomy's grid it lies.
        parts: Number of its own voxels along the edge of one of the anatomy's.
        grid: Grid of its own voxels, which fill the box.
        holds: Those that hold any of the bone, bool. What follows are lists of numbers of these.
        depth: Depth of the voxels' centres below the surface, mm.
        filled: Share of the voxel that is bone.
        texture, drift: Fine and slow variation of the spongy bone, of unit variance at a point.
        shell: Thickness of the cortex, mm, at a factor of 1.
        spongy: Density of the spongy bone, mg/cm3, at a factor of 1.
        shaft: Share of canal.
        sclerosis: Share of dense bone below a loaded joint.
        texture_factor, cortex_factor: The patient's strength of the texture and thickness of the cortex.
    """

    box: tuple[slice, slice, slice]
    parts: int
    grid: Grid
    holds: np.ndarray
    depth: np.ndarray
    filled: np.ndarray
    texture: np.ndarray
    drift: np.ndarray
    shell: np.ndarray
    spongy: np.ndarray
    shaft: np.ndarray
    sclerosis: np.ndarray
    texture_factor: float = 1.0
    cortex_factor: float = 1.0

    def mineral(self, factor: float) -> tuple[np.ndarray, np.ndarray]:
        """Mineral, mg/cm3, and share of fat marrow of every voxel, for a factor of mineral."""
        thinning = min(factor / _THIN, 1.0)  # little mineral takes the cortex as well
        shell = self.shell * (0.7 + 0.3 * factor) * self.cortex_factor * thinning
        cortical = np.maximum(
            _measure_cortical_share(self.depth, shell, float(self.grid.spacing_mm[0])), self.sclerosis
        )
        uneven = 1 + 0.2 * self.texture_factor * self.texture + 0.13 * self.drift
        trabecular = np.clip(self.spongy * factor * uneven, 5, None) * (1 - 0.94 * self.shaft)
        dense = CORTICAL_MG_CM3 * (0.85 + 0.15 * factor) * (1 + 0.03 * self.drift)
        marrow = self.filled * (1 - cortical) * self.shaft
        return self.filled * (cortical * dense + (1 - cortical) * trabecular), marrow

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Numbers of the voxels in their places, float32, on the bone's grid; 0 where there is no bone."""
        out = np.zeros(self.holds.shape, np.float32)
        out[self.holds] = values
        return out

    def average(self, values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """The same as means over the voxels of the anatomy's grid of that shape, float32."""
        out = np.zeros(shape, np.float32)
        out[self.box] = average_parts(self.spread(values), self.parts)
        return out

    def measured_by(self, weights: np.ndarray, box: tuple[slice, slice, slice]) -> tuple[BoneInside, np.ndarray]:
        """The same of the voxels alone that count in a measure, and what each of them counts.

        Args:
            weights: What the mean of each voxel of the anatomy counts.
            box: Where in the anatomy's grid these lie, within the bone's own box.
        """
        own = np.zeros(tuple(part.stop - part.start for part in self.box))
        own[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, self.box, strict=True))] = weights
        for axis in range(3):
            own = np.repeat(own, self.parts, axis)
        chosen = own[self.holds] > 0
        holds = np.zeros(self.holds.shape, bool)
        holds[self.holds] = chosen
        fewer = replace(self, holds=holds, **{name: getattr(self, name)[chosen] for name in _LISTS})
        return fewer, own[holds] / self.parts**3


_LISTS = ("depth", "filled", "texture", "drift", "shell", "spongy", "shaft", "sclerosis")


def _measure_filled(depth: np.ndarray, step_mm: float) -> np.ndarray:
    """Share of each voxel that is bone, as if its surface were flat across the voxel."""
    return np.clip(depth / step_mm + 0.5, 0, 1)


def _measure_cortical_share(depth: np.ndarray, shell: np.ndarray, step_mm: float) -> np.ndarray:
    """Share of cortex in the bone of each voxel: the mean over what of the voxel's edge lies below the surface.

    Cortex gives way to spongy bone along a logistic curve about the depth `shell`, whose integral is known.
    """
    high = np.maximum(depth + step_mm / 2, 0)
    low = np.maximum(depth - step_mm / 2, 0)
    within = np.logaddexp(0, (shell - low) / _EDGE_MM) - np.logaddexp(0, (shell - high) / _EDGE_MM)
    return _EDGE_MM * within / np.maximum(high - low, 1e-6)


def prepare_bone(
    anatomy: Anatomy, name: str, rng: np.random.Generator, person: Person = USUAL_PERSON
) -> BoneInside | None:
    """Draw the inside of one bone; None where the anatomy has no voxel of it.

    Args:
        anatomy: Shapes of the patient.
        name: Structure.
        rng: Random generator of the patient.
        person: What the population says of the patient's bone.
    """
    depth_all, grid = anatomy.depths[name], anatomy.grid
    if not (depth_all > -float(grid.spacing_mm[0])).any():
        return None
    box = find_box(depth_all, grid)
    parts = int(np.ceil(grid.spacing_mm[0] / _MOST_MM - 1e-6))
    depth, local = refine_depth(depth_all[box], grid.crop(box), parts)
    step = float(local.spacing_mm[0])
    fine, drift = draw_smooth_noise(local, 1.6, rng), draw_smooth_noise(local, 14.0, rng)
    z = (local.origin_mm[2] + np.arange(depth.shape[0], dtype=np.float32) * step)[:, None, None]
    shell: np.ndarray | float
    spongy: np.ndarray | float
    shaft: np.ndarray | float
    sclerosis: np.ndarray | float = 0.0
    if name in ("femur_L", "femur_R"):
        shell, spongy, shaft = _describe_femur_inside(
            anatomy, "L" if name == "femur_L" else "R", local, z, person.pattern
        )
    else:
        shell, shaft = (1.5, 0.0) if name == "pelvis" else (0.9, 0.0)
        spongy = 185.0 if name == "pelvis" else 150.0
        sclerosis = _find_subchondral(anatomy, local) if name == "pelvis" else 0.0
    holds = depth > -step / 2
    arrays = (depth, _measure_filled(depth, step), fine, drift, shell, spongy, shaft, sclerosis)
    lists = [np.broadcast_to(np.asarray(array, np.float32), depth.shape)[holds] for array in arrays]
    named = dict(zip(_LISTS, lists, strict=True))
    return BoneInside(box, parts, local, holds, **named, texture_factor=person.texture, cortex_factor=person.cortex)


def find_mineral_factor(bones: Mapping[Side, BoneInside], hips: Mapping[Side, FineFemur], bmd_g_cm2: float) -> float:
    """Find the factor of mineral at which the proximal femurs have an areal BMD, the mean of both sides.

    Args:
        bones: Insides of the femurs.
        hips: What their mineral counts.
        bmd_g_cm2: Areal BMD wanted.

    Returns:
        The factor, between 0.05 and 4.
    """
    counted = [bones[side].measured_by(hips[side].areal_weights, hips[side].box) for side in SIDES]

    def miss(factor: float) -> float:
        found = [float((bone.mineral(factor)[0] * weights).sum()) for bone, weights in counted]
        return float(np.mean(found)) - bmd_g_cm2

    low, high = _FACTORS
    if miss(low) >= 0:
        return low
    return high if miss(high) <= 0 else float(brentq(miss, low, high, xtol=1e-4))


def _describe_femur_inside(
    anatomy: Anatomy, side: Side, local: Grid, z: np.ndarray, pattern: float
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
    uneven = 120 * compressive + 60 * np.exp(-((from_head / radius) ** 2)) - 75 * trochanter
    spongy = np.maximum(180 + pattern * uneven, _LEAST_SPONGY_MG_CM3)
    neck = np.clip((from_head - radius) / 20, 0, 1)
    shell = 1.4 + 1.1 * neck * (1 - 0.6 * trochanter) + 4.4 * shaft
    return shell, spongy.astype(np.float32), np.broadcast_to(shaft, local.shape).astype(np.float32)


def _find_subchondral(anatomy: Anatomy, local: Grid) -> np.ndarray:
    """Share of dense bone in the roof of the sockets, where the load goes through."""
    dense = np.zeros(local.shape, np.float32)
    for side in SIDES:
        head, outward = anatomy.heads_mm[side], 1.0 if side == "L" else -1.0
        reach = anatomy.head_radii_mm[side] + _SOCKET_MM
        low, high = local.indices(head - reach), local.indices(head + reach)
        first, last = (np.clip(np.rint(index).astype(int), 0, local.shape) for index in (low, high))
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        k, j, i = (np.arange(a, b, dtype=np.float32) for a, b in zip(first, last, strict=True))
        z = (local.origin_mm[2] + k * local.spacing_mm[2] - head[2])[:, None, None]
        y = (local.origin_mm[1] + j * local.spacing_mm[1] - head[1])[None, :, None]
        x = (local.origin_mm[0] + i * local.spacing_mm[0] - head[0])[None, None, :] * outward
        distance = np.sqrt(x**2 + y**2 + z**2)
        load = np.clip((z * 0.93 + x * 0.3) / np.maximum(distance, 1) * 1.8 - 0.75, 0, 1)
        thick = anatomy.head_radii_mm[side] + 3.0 + 4.5 * load
        share = 0.75 * load / (1 + np.exp(np.clip((distance - thick) / 0.7, -30, 30)))
        dense[box] = np.maximum(dense[box], share)
    return dense
