"""Bone mineral and soft tissue that fill an anatomy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bmdkit.core.anatomy import LABEL_VALUES, SIDES, STRUCTURES, Side
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.simulation.bone_filling import BoneInside, find_mineral_factor, prepare_bone
from bmdkit.simulation.noise import draw_smooth_noise
from bmdkit.simulation.population import USUAL_PERSON, Person
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.true_bmd import FineFemur

FAT_MARROW_HU = -75.0
"""What marrow of the shaft shows beyond its mineral, HU."""


@dataclass(frozen=True, eq=False)
class Tissue:
    """What the scanner and the X-rays see; all arrays are on the anatomy's grid.

    Attributes:
        mineral: Structure -> hydroxyapatite, mg/cm3, float32; partly filled voxels at the surface hold their share.
        fine_mineral: Structure -> the same on finer voxels of its own, of which radiographs are taken; what is not
            there has none.
        bone_share: Structure -> share of the voxel that is bone, float32.
        fat_marrow: Share of the voxel that is fat marrow, float32.
        soft_hu: Everything as it would be without bone and without bowel gas, HU, float32; air is -1000.
        gas: Bowel gas at the time of the CT, bool.
        room_for_gas: Where it may be at another time, bool.
        mineral_factor: 1 is the average adult's.
        hips: What the mineral of the femurs counts in their BMD, of the sides that were measured so far.
    """

    mineral: dict[str, np.ndarray]
    fine_mineral: dict[str, Volume]
    bone_share: dict[str, np.ndarray]
    fat_marrow: np.ndarray
    soft_hu: np.ndarray
    gas: np.ndarray
    room_for_gas: np.ndarray
    mineral_factor: float
    hips: dict[Side, FineFemur] = field(default_factory=dict)

    def measure_bmd(self, anatomy: Anatomy, side: Side) -> tuple[float, float]:
        """Areal BMD, g/cm2, and mean density, mg/cm3, of a proximal femur, whatever the voxels.

        Args:
            anatomy: The shapes that are filled.
            side: The hip.
        """
        if side not in self.hips:
            self.hips[side] = FineFemur(anatomy, side)
        hip = self.hips[side]
        mineral = self.mineral[f"femur_{side}"][hip.box]
        return hip.measure_areal(mineral), hip.measure_volumetric(mineral)

    def density(self) -> np.ndarray:
        """Mineral of all bones, mg/cm3, float32."""
        return np.asarray(np.sum(list(self.mineral.values()), axis=0, dtype=np.float32))

    def held_labels(self, grid: Grid) -> LabelMap:
        """Labels of all voxels that hold a part of a bone, of the bone that fills most of them.

        Args:
            grid: The anatomy's grid.
        """
        array, most = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32)
        for name, share in self.bone_share.items():
            array[share > most] = LABEL_VALUES[name]
            np.maximum(most, share, out=most)
        return LabelMap(array, grid, LABEL_VALUES)


def fill_tissue(
    anatomy: Anatomy, rng: np.random.Generator, mineral_factor: float | None = None, person: Person = USUAL_PERSON
) -> Tissue:
    """Fill an anatomy with random tissue.

    Args:
        anatomy: Shapes of the patient.
        rng: Random generator of the patient.
        mineral_factor: Factor of the mineral; if not given, the one that gives the person's BMD, or drawn between 0.45
            and 1.4 for a person of whom no BMD is asked.
        person: What the population says of the patient.
    """
    factor, hips = float(np.clip(rng.normal(0.88, 0.22), 0.45, 1.4)), {}
    bones = {name: prepare_bone(anatomy, name, rng, person) for name in STRUCTURES}
    wanted = person.wanted_bmd(float(np.mean(list(anatomy.head_radii_mm.values()))))
    if mineral_factor is not None:
        factor = float(mineral_factor)
    elif wanted is not None:
        hips = {side: FineFemur(anatomy, side) for side in SIDES}
        factor = find_mineral_factor({side: _require(bones, f"femur_{side}") for side in SIDES}, hips, wanted)
    shape = anatomy.grid.shape
    mineral, share = ({name: np.zeros(shape, np.float32) for name in STRUCTURES} for _ in range(2))
    fine: dict[str, Volume] = {}
    fat = np.zeros(shape, np.float32)
    for name, bone in bones.items():
        if bone is not None:
            values, marrow = bone.mineral(factor)
            mineral[name], share[name] = bone.average(values, shape), bone.average(bone.filled, shape)
            fine[name] = Volume(bone.spread(values), bone.grid, "density_mg_cm3")
            fat += bone.average(marrow, shape)
    soft = _draw_soft_tissue(anatomy, rng)
    room = find_room_for_gas(anatomy, soft)
    return Tissue(mineral, fine, share, fat, soft, draw_bowel_gas(anatomy, room, rng), room, factor, hips)


def _require(bones: Mapping[str, BoneInside | None], name: str) -> BoneInside:
    bone = bones[name]
    if bone is None:
        raise ValueError(f"anatomy: expected a {name}, got none")
    return bone


def find_room_for_gas(anatomy: Anatomy, soft_hu: np.ndarray) -> np.ndarray:
    """Find where bowel may lie: deep in the body, beside the bones, bool."""
    return (soft_hu > -150) & (anatomy.depths["body"] > 25) & (_measure_bone_depth(anatomy) < -3)


def draw_bowel_gas(anatomy: Anatomy, room: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw where gas is in the bowel at one time: a few loops in the pelvis, bool.

    Args:
        anatomy: Shapes of the patient.
        room: Where it may be, of `find_room_for_gas`.
        rng: Random generator of that time.
    """
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
    return gas & room


def _draw_soft_tissue(anatomy: Anatomy, rng) -> np.ndarray:
    """Fat, muscle with its septa, and the contents of the pelvis, HU."""
    grid, body = anatomy.grid, anatomy.depths["body"]
    coarse, fine = draw_smooth_noise(grid, 22.0, rng), draw_smooth_noise(grid, 7.0, rng)
    drawn = rng.uniform(9, 24)
    layer = drawn if anatomy.fat_mm is None else anatomy.fat_mm
    bone = _measure_bone_depth(anatomy)
    if "muscle" in anatomy.depths:
        muscle = anatomy.depths["muscle"] > 0
    else:
        septa = draw_smooth_noise(grid, (70.0, 17.0, 17.0), rng)  # muscles run up and down
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
