"""How well the outline of a label map agrees with the edges of the bones in its CT."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume

_POINTS = 6000
_TRIED_PER_POINT = 8
_FEWEST_POINTS = 200
_REACH_MM, _STEP_MM = 8.0, 1.0
_TOLERANCE_MM = 3.0  # a map may be drawn so much too small or too large all over
_HU_RANGE = (-150.0, 900.0)  # what lies beyond tells gas and metal, not the edge of bone
_LEAST_DESCENT_HU = 1.0
_NORMAL_SIGMA_MM = 2.0


def measure_edge_agreement(labels: LabelMap, ct: Volume) -> float | None:
    """Measure whether the bones' edges lie where the labels say, the same distance away all along the outline.

    HU are read along the outward normal at points of the outline. Where a map lies on its bones, the steepest descent
    of most profiles is at one and the same distance, so the mean of all profiles descends nearly as steeply as each of
    them; where it lies elsewhere, the descents are scattered and the mean is flat. The ratio of the two depends neither
    on the bones' mineral nor on a map that was drawn a little too small or too large all over.

    Args:
        labels: Label map on any grid; all of its structures are taken as one.
        ct: CT in HU.

    Returns:
        0 (none) to 1 (all edges at one distance); None where too little of the outline lies in the CT to tell.
    """
    points, normals = _sample_outline(labels)
    descents = _measure_descents(points, normals, ct)
    if len(descents) < _FEWEST_POINTS:
        return None
    steepest = np.maximum(descents.max(axis=1), _LEAST_DESCENT_HU).mean()
    allowed = np.abs(_offsets_mm()[1:-1]) <= _TOLERANCE_MM
    return float(np.clip(descents.mean(axis=0)[allowed].max() / steepest, 0.0, 1.0))


def _offsets_mm() -> np.ndarray:
    """Places of the samples along a normal, outward."""
    return np.arange(-_REACH_MM, _REACH_MM + _STEP_MM / 2, _STEP_MM)


def _sample_outline(labels: LabelMap) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) of the outline, LPS, mm, drawn at random but always the same, and their outward normals (n, 3)."""
    array = labels.array > 0
    inside = np.flatnonzero(array)
    rng = np.random.default_rng(0)
    drawn = rng.choice(inside, min(len(inside), _POINTS * _TRIED_PER_POINT), replace=False)
    index = np.stack(np.unravel_index(drawn, array.shape), axis=1)
    index = index[((index >= 2) & (index < np.array(array.shape) - 2)).all(axis=1)]
    steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    on_outline = np.zeros(len(index), bool)
    for step in steps:
        on_outline |= ~array[tuple((index + step).T)]
    index = index[on_outline][:_POINTS]
    normals = _find_normals(array, index, labels.grid)
    length = np.linalg.norm(normals, axis=1)
    clear = length > 1e-6
    return labels.grid.points(index[clear]), normals[clear] / length[clear, None]


def _find_normals(array: np.ndarray, index: np.ndarray, grid: Grid) -> np.ndarray:
    """Directions away from the mask's voxels around each voxel of `index`, LPS, not of length one."""
    spacing = grid.spacing_mm[::-1]
    away = np.zeros((len(index), 3))
    for step in np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3):
        distance = step * spacing
        weight = float(np.exp(-(distance @ distance) / (2 * _NORMAL_SIGMA_MM**2)))
        away -= (weight * array[tuple((index + step).T)])[:, None] * distance
    return away[:, ::-1] @ grid.direction.T


def _measure_descents(points: np.ndarray, normals: np.ndarray, ct: Volume) -> np.ndarray:
    """HU lost over two steps outward, (n, samples - 2), along each profile that lies in the CT."""
    places = points[:, None] + _offsets_mm()[:, None] * normals[:, None]
    index = ct.grid.indices(places)
    within = ((index >= 0) & (index <= np.array(ct.grid.shape) - 1)).all(axis=(1, 2))
    index = index[within]
    hu = ndimage.map_coordinates(
        ct.require("hu").array, index.reshape(-1, 3).T, order=1, output=np.float32, mode="nearest"
    ).reshape(index.shape[:2])
    hu = np.clip(hu, *_HU_RANGE)
    return hu[:, :-2] - hu[:, 2:]
