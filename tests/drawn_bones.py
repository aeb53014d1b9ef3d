"""Bones of ellipsoids, as labels and as a CT: large enough for outlines, and not alike on both sides."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume

GRID = Grid((80, 60, 110), [2.0, 2.0, 2.5], [-110.0, -60.0, -100.0], np.eye(3))
# centre and half axes of ellipsoids, LPS, mm; nothing is the mirror image of anything
BONES = {
    "pelvis": ((-4, 8, 40), (78, 30, 34)),
    "axial": ((6, 40, 60), (22, 12, 25)),
    "femur_L": ((84, -6, -40), (14, 16, 52)),
    "femur_R": ((-88, 3, -34), (15, 13, 58)),
}


def bones(shift_mm=(0, 0, 0), grow_mm=0.0, stretch=(1, 1, 1), grid: Grid = GRID) -> LabelMap:
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1)) - np.asarray(shift_mm, float)
    array = np.zeros(grid.shape, np.uint8)
    for name, (centre, half) in BONES.items():
        reach = (np.array(half) + grow_mm) * stretch
        array[(((points - np.array(centre) * stretch) / reach) ** 2).sum(axis=-1) <= 1] = LABEL_VALUES[name]
    return LabelMap(array, grid, LABEL_VALUES)


def scan(*, bone_hu=400.0, noise_hu=15.0, blur=0.7, grid: Grid = GRID) -> Volume:
    """Hollow bones in muscle: a shell of cortex about softer marrow."""
    whole, core = bones(grid=grid).array > 0, bones(grow_mm=-5, grid=grid).array > 0
    hu = np.where(whole, bone_hu, 50.0)
    hu[core] = 50 + 0.3 * (bone_hu - 50)
    hu = ndimage.gaussian_filter(hu, blur) + np.random.default_rng(0).normal(0, noise_hu, hu.shape)
    return Volume(np.rint(hu).astype(np.int16), grid, "hu")


CT = scan()
