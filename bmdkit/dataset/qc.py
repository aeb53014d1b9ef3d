"""Pictures for the eye: the rods on their slice, and the labels and proximal femur on three planes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from bmdkit.core.volume import Grid, LabelMap, Volume
from bmdkit.dataset.ct_side import CtSide, Hip
from bmdkit.io.images import write_png

PIXEL_MM = 1.0
WINDOW_HU = (-250.0, 750.0)
COLOURS = {"pelvis": (230, 159, 0), "femur_L": (86, 180, 233), "femur_R": (0, 158, 115), "axial": (204, 121, 167)}
REGION_COLOUR = (255, 255, 0)
ROD_COLOUR = (255, 64, 64)
_ROD_RADIUS_MM = 9.0


def draw_ct(folder: Path, ct: CtSide) -> None:
    """Write calibration.png, if the calibration has rods with a place, and labels_<side>.png of every target hip."""
    rods = [rod.center_lps_mm for rod in ct.calibration.rods if rod.center_lps_mm is not None]
    if rods:
        write_png(folder / "calibration.png", draw_rods(ct.scan.volume, np.array(rods)))
    for side, hip in ct.hips.items():
        centre = _centre(ct.labels, hip)
        if centre is not None:
            write_png(folder / f"labels_{side}.png", draw_planes(ct.scan.volume, ct.labels, hip, centre))


def draw_rods(hu: Volume, centres_mm: np.ndarray) -> np.ndarray:
    """The axial slice through the rods, (rows, columns, 3) uint8, with a ring around each.

    Args:
        hu: The CT.
        centres_mm: (n, 3), LPS.
    """
    grid = _plane(hu.grid, np.median(centres_mm, axis=0), 0)
    image = _grey(_sample(hu, grid))
    index = np.argwhere(np.ones(image.shape[:2], bool))
    points = grid.points(np.insert(index, 0, 0, axis=1))
    for centre in centres_mm:
        distance = np.linalg.norm((points - centre)[:, :2], axis=1).reshape(image.shape[:2])
        image[np.abs(distance - _ROD_RADIUS_MM) < 0.7 * PIXEL_MM] = ROD_COLOUR
    return image


def draw_planes(hu: Volume, labels: LabelMap, hip: Hip, centre_mm: np.ndarray) -> np.ndarray:
    """Axial, coronal and sagittal plane through a point, side by side, (rows, columns, 3) uint8, superior above."""
    planes = []
    for axis in range(3):
        grid = _plane(hu.grid, centre_mm, axis)
        image = _grey(_sample(hu, grid))
        shown = np.squeeze(labels.resample(grid).array, axis)
        for name, colour in COLOURS.items():
            image[_outline(shown == labels.values.get(name, 255))] = colour
        if hip.region is not None:
            region = LabelMap(hip.region.view(np.uint8), labels.grid, {"region": 1}).resample(grid)
            image[_outline(np.squeeze(region.array, axis) > 0)] = REGION_COLOUR
        planes.append(image if axis == 0 else image[::-1])
    height = max(len(plane) for plane in planes)
    return np.concatenate([_pad(plane, height) for plane in planes], axis=1)


def _centre(labels: LabelMap, hip: Hip) -> np.ndarray | None:
    mask = labels.mask(f"femur_{hip.side}") if hip.region is None else hip.region
    if not mask.any():
        return None
    middle = [np.average(np.arange(n), weights=_profile(mask, axis)) for axis, n in enumerate(mask.shape)]
    return labels.grid.points(np.array(middle))


def _profile(mask: np.ndarray, axis: int) -> np.ndarray:
    return mask.sum(axis=tuple(a for a in range(3) if a != axis))


def _plane(grid: Grid, through_mm: np.ndarray, axis: int) -> Grid:
    """A grid of square pixels over a CT's extent, one voxel thick along array axis `axis`."""
    whole = grid.with_spacing(PIXEL_MM)
    index = int(np.clip(np.rint(whole.indices(through_mm)[axis]), 0, whole.shape[axis] - 1))
    box = [slice(None)] * 3
    box[axis] = slice(index, index + 1)
    return whole.crop(tuple(box))


def _sample(hu: Volume, plane: Grid) -> np.ndarray:
    """The CT on a plane, 2-D; only the slab around it is touched."""
    axis = plane.shape.index(1)
    at = hu.grid.indices(plane.corners())[:, axis]
    first, last = int(np.floor(at.min())) - 1, int(np.ceil(at.max())) + 2
    box = [slice(None)] * 3
    box[axis] = slice(max(first, 0), min(max(last, 1), hu.grid.shape[axis]))
    return np.squeeze(hu.crop(tuple(box)).resample(plane, fill=WINDOW_HU[0]).array, axis)


def _grey(values: np.ndarray) -> np.ndarray:
    low, high = WINDOW_HU
    grey = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _outline(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _pad(image: np.ndarray, height: int) -> np.ndarray:
    missing = height - len(image)
    return np.pad(image, ((missing // 2, missing - missing // 2), (0, 0), (0, 0)))
