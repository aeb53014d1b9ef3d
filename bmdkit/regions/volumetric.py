"""The proximal femur in three dimensions, and its volumetric density (QCT-BMD)."""

from __future__ import annotations

import logging

import numpy as np

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.arguments import require_type
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume, bounding_box, keep_largest_component
from bmdkit.errors import CaseError
from bmdkit.regions.cut_planes import find_distal_plane, find_junction_plane, require_landmarks
from bmdkit.regions.landmark_detection import find_landmarks

logger = logging.getLogger(__name__)

_OUTSIDE_ALLOWED = 0.01  # of the region's voxels may lie outside the density volume


def proximal_femur(labels: LabelMap, landmarks: Landmarks) -> np.ndarray:
    """Cut the proximal femur out of a femur: below the head-neck junction, above the level of shaft_2cm.

    Args:
        labels: Label map with the femur of the landmarks' side.
        landmarks: All eight landmarks of one hip.

    Returns:
        bool, on the labels' grid: the largest connected part between both planes.

    Raises:
        CaseError: BMD-PF-001, a landmark is missing; BMD-PF-002, no femur between the planes.

    Source: Uemura et al. 2022, the three-dimensional region.

    Example:
        >>> from bmdkit import read_labels
        >>> labels = read_labels("cohort/labels/sim000.nii.gz")
        >>> from bmdkit import read_landmarks
        >>> region = proximal_femur(labels, read_landmarks("cohort/landmarks/sim000_L.mrk.json", "L"))
        >>> bool((region & ~labels.mask("femur_L")).any())  # nothing outside of the femur
        False
    """
    require_type("labels", labels, LabelMap)
    require_type("landmarks", landmarks, Landmarks)
    require_landmarks(landmarks)
    name = f"femur_{landmarks.side}"
    femur = labels.mask(name)
    if not femur.any():
        raise CaseError("BMD-PF-002", f"the labels have no voxel of {name}.")
    box = bounding_box(femur)
    femur = femur[box]
    grid = labels.grid.crop(box)
    inside = np.argwhere(femur)
    points = grid.points(inside)
    keep = find_junction_plane(landmarks).height_mm(points) > 0
    keep &= find_distal_plane(landmarks, grid).height_mm(points) > 0
    region = np.zeros(labels.grid.shape, bool)
    part = region[box]
    part[tuple(inside[keep].T)] = True
    if not keep.any():
        raise CaseError("BMD-PF-002", f"{name} has no voxel between the junction plane and the level of shaft_2cm.")
    part[:] = keep_largest_component(part)
    return region


def find_proximal_femora(labels: LabelMap) -> dict[Side, np.ndarray]:
    """Find the proximal femora that a label map shows whole, with landmarks that are looked for.

    Args:
        labels: Structures, fit for use.

    Returns:
        Side -> bool, on the labels' grid; a hip whose landmarks are not found, or that is cut off, is left out, and
        the log says so.
    """
    found: dict[Side, np.ndarray] = {}
    for side in SIDES:
        try:
            found[side] = proximal_femur(labels, find_landmarks(labels, side).landmarks)
        except CaseError as error:
            logger.warning("no proximal femur %s: %s", side, error)
    return found


def volumetric_bmd(density: Volume, mask: np.ndarray, grid: Grid | None = None) -> float:
    """Mean density inside a region (QCT-BMD), mg/cm3.

    Args:
        density: Calibrated density; linearly interpolated at the voxel centres of `grid` if it lies on another grid.
        mask: Region, bool, on `grid`; `proximal_femur` gives it on the grid of its labels.
        grid: Grid of the mask; the density's own if not given.

    Raises:
        ValueError: The mask has another shape than its grid.
        CaseError: BMD-PF-003, the region reaches out of the density volume.

    Example:
        >>> from bmdkit.core.grid import Grid
        >>> from bmdkit.core.volume import Volume
        >>> grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3))
        >>> density = Volume(np.full(grid.shape, 250, np.float32), grid, "density_mg_cm3")
        >>> volumetric_bmd(density, np.ones(grid.shape, bool), grid)
        250.0
    """
    require_type("density", density, Volume)
    require_type("mask", mask, np.ndarray)
    density.require("density_mg_cm3")
    grid = density.grid if grid is None else grid
    if mask.shape != grid.shape:
        raise ValueError(f"mask: expected shape {grid.shape} as its grid, got {mask.shape}")
    box = bounding_box(mask)
    values = density.resample(grid.crop(box), fill=np.nan).array[mask[box]]
    outside = float(np.isnan(values).mean())
    if outside > _OUTSIDE_ALLOWED:
        measured, allowed = 100 * outside, 100 * _OUTSIDE_ALLOWED
        raise CaseError("BMD-PF-003", f"{measured:.1f} % of the region lies outside the CT, allowed {allowed:g} %.")
    return float(np.nanmean(values, dtype=np.float64))
