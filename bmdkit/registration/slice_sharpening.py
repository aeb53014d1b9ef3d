"""Thick slices: what a scan has averaged over a slice, given back to the bone that the labels show."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmdkit.core.grid import Grid
from bmdkit.core.intervals import measure_overlaps
from bmdkit.core.volume import LabelMap, Volume, bounding_box

_THICK = 1.5  # slices this many times as thick as the labels' voxels are worth the trouble
_SOFT_MG_CM3 = 40.0  # at most, of what is not bone
_LEAST_SHARE = 0.25  # of a slice that bone must fill to take what the slice holds too much
_BLUR_MM = 0.6  # standard deviation of the blur within a slice
_WITHIN_SLICE = ndimage.generate_binary_structure(2, 1)[None]
_FADED = 0.6  # 0.17 to 0.27 beside exact labels, more than 1 beside labels that are a voxel too small
_ITERATIONS = 2
_MARGIN_VOXELS = 4


def sharpen_slices(density: Volume, labels: LabelMap) -> Volume:
    """Density on finer labels whose bone ends more nearly where the labels do.

    The edges of a bone fade over the thickness of a slice, and a projection of it looks as if it were turned a little.
    A few steps of simultaneous algebraic reconstruction, of bone alone, undo this. Its outermost shell stays too low,
    though, so that a bone looks too small and then lies too deep; the mean of what is restored and of what was scanned
    does not.

    Args:
        density: mg/cm3; its slices abut.
        labels: On a grid whose axes run as those of the scan; otherwise the scan is returned as it is, and also where
            its slices are hardly thicker than the labels' voxels, or where the labels end within bone.

    Returns:
        On the part of the labels' grid that holds labels, or `density`.

    Source: Andersen and Kak 1984, doi 10.1016/0161-7346(84)90008-7 (SART).
    """
    old, new = density.grid, labels.grid
    alike = np.allclose(old.direction, new.direction, atol=1e-3)
    if not alike or old.spacing_mm[2] < _THICK * new.spacing_mm[2] or not labels.array.any():
        return density
    cut = labels.crop(bounding_box(labels.array > 0, _MARGIN_VOXELS))
    bone = cut.array > 0
    plain = density.resample(cut.grid).array
    if _ends_within_bone(bone, plain):
        return density
    values = np.where(bone, np.maximum(plain, 0), np.clip(plain, None, _SOFT_MG_CM3)).astype(np.float32)
    first = old.indices(cut.grid.points([0, 0, 0]))[0]
    weights = _slice_shares(old.shape[0], cut.grid.shape[0], first, cut.grid.spacing_mm[2] / old.spacing_mm[2])
    seen = np.flatnonzero(weights.sum(1) > 0.99)  # slices that lie wholly within the part
    if not len(seen):
        return density
    weights = weights[seen]
    blur = (0, *(_BLUR_MM / cut.grid.spacing_mm[1::-1]))
    measured = _slices(density, cut, seen)
    share = ndimage.gaussian_filter(_along(weights, bone.astype(np.float32)), blur)
    back = weights.T / np.maximum(weights.sum(0), 1e-6)[:, None]
    for _ in range(_ITERATIONS):
        scan = ndimage.gaussian_filter(_along(weights, values), blur)
        missing = (measured - scan) / np.maximum(share, _LEAST_SHARE)
        missing = ndimage.gaussian_filter(np.where(share > _LEAST_SHARE / 2, missing, 0), blur)
        values = np.where(bone, np.maximum(values + _along(back, missing), 0), values)
    return Volume(0.5 * (values + plain), cut.grid, density.quantity)


def _ends_within_bone(bone: np.ndarray, density: np.ndarray) -> bool:
    """Whether labels are too small: just beside them, within a slice, it is nearly as dense as just inside."""
    beside = ndimage.binary_dilation(bone, _WITHIN_SLICE) & ~bone
    inside = bone & ~ndimage.binary_erosion(bone, _WITHIN_SLICE)
    return bool(beside.any() and density[beside].mean() > _FADED * density[inside].mean())


def _slice_shares(slices: int, voxels: int, first: float, step: float) -> np.ndarray:
    """(slices, voxels), the share of each slice that each fine voxel fills; in units of a slice's thickness."""
    centres = first + step * np.arange(voxels)
    middles = np.arange(slices)
    return measure_overlaps(middles - 0.5, middles + 0.5, centres - step / 2, centres + step / 2).astype(np.float32)


def _slices(density: Volume, cut: LabelMap, numbers: np.ndarray) -> np.ndarray:
    """The scan's own slices at the fine grid's rows and columns."""
    part = density.crop((slice(numbers[0], numbers[-1] + 1), slice(None), slice(None)))
    origin = cut.grid.points([0, 0, 0])
    level = part.grid.points([0, 0, 0])
    axis = part.grid.direction[:, 2]
    start = origin + axis * ((level - origin) @ axis)
    spacing = np.array([*cut.grid.spacing_mm[:2], part.grid.spacing_mm[2]])
    grid = Grid((len(numbers), *cut.grid.shape[1:]), spacing, start, part.grid.direction)
    return part.resample(grid).array


def _along(weights: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Weights (m, n) along the first axis of (n, rows, columns)."""
    return (weights @ array.reshape(len(array), -1)).reshape(len(weights), *array.shape[1:])
