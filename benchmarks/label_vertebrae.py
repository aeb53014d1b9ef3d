"""Vertebrae cut from the label map of a spine: solids with the shapes of patients, for registration_solids.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import ndimage

from bmdkit.core.volume import bounding_box, keep_largest_component
from bmdkit.io.volumes import read_array, turn_to_axial

VOXEL_MM = 1.0
_MARGIN = 4


def cut_vertebrae(path: Path, value: int, discs_mm: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut what lies between neighbouring discs, lowest first, filled and on cubic voxels.

    Args:
        path: The label map; its slices axial.
        value: Value of the spine there, or of its cortex.
        discs_mm: Heights (LPS z) of the middles of the discs, rising.

    Returns:
        Of each vertebra its mask [z, y, x], and the place (x, y, z) of its first voxel, mm.
    """
    stored, stored_grid, _ = read_array(path)
    array, grid = turn_to_axial(stored, stored_grid)
    found = []
    for low, high in pairwise(discs_mm):
        first, last = (round(float(grid.indices(np.array([*grid.origin_mm[:2], z]))[0])) for z in (low, high))
        piece = np.zeros(array.shape, bool)
        piece[first:last] = array[first:last] == value
        box = bounding_box(piece, 2)
        part, place = piece[box], grid.crop(box)
        zoom = place.spacing_mm[::-1] / VOXEL_MM
        # voxels keep their extent: the middle of the first one moves
        solid = ndimage.zoom(part.astype(np.float32), zoom, order=1, grid_mode=True, mode="grid-constant") > 0.4
        origin = place.origin_mm - (place.spacing_mm - VOXEL_MM) / 2
        found.append((keep_largest_component(_fill(solid)), origin))
    return found


def _fill(solid: np.ndarray) -> np.ndarray:
    """What a shell encloses, without the spinal canal: that is open in every upright slice."""
    solid = ndimage.binary_closing(np.pad(solid, _MARGIN), iterations=3)[(slice(_MARGIN, -_MARGIN),) * 3]
    for axis in (2, 1):
        slices = [ndimage.binary_fill_holes(each) for each in np.moveaxis(solid, axis, 0)]
        solid = np.stack(slices, axis=axis)
    return np.asarray(solid, bool)
