"""Which pixels of a radiograph are image: flat borders (collimator, padding) and burned-in markers are not."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

FLAT_FRACTION = 0.004
"""How far from the extreme value, as a part of the range, a pixel of a border or a marker may lie."""
LEAST_BORDER = 0.003
"""The smallest border, as a part of the image."""
MARKER_PIXELS = (12, 0.03)
"""The smallest marker, in pixels, and the largest, as a part of the image."""
MARKER_STEP = 0.12
"""How much darker than a marker its surroundings have to be at once, as a part of the range."""


def image_area(values: np.ndarray, seen: np.ndarray, *, borders: bool = True, markers: bool = True) -> np.ndarray:
    """Find what is image.

    Borders are connected areas of one extreme value that reach the edge of the image and are thick (a collimator may
    be turned). Markers are compact areas of one extreme value whose surroundings differ at once, over most of their
    outline; a dense bone that saturates fades out instead.

    Args:
        values: [row, column], any scale.
        seen: [row, column], bool; pixels that are already known to be no image are False.

    Returns:
        [row, column], bool, True where the pixel is image.
    """
    keep = seen.copy()
    inside = values[seen]
    if inside.size == 0 or inside.min() == inside.max():
        return keep
    low, high = float(inside.min()), float(inside.max())
    flat = FLAT_FRACTION * (high - low)
    areas = [seen & (values <= low + flat), seen & (values >= high - flat)]
    if borders:
        for area in areas:
            keep &= ~_border(area, ~seen)
    if markers and keep.any():
        low_robust, high_robust = np.percentile(values[keep], (1, 99))
        step = MARKER_STEP * float(high_robust - low_robust)
        for area, sign in zip(areas, (1.0, -1.0), strict=True):
            keep &= ~_markers(sign * values, area & keep, keep, step)
    return keep


def _border(area: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The thick parts of `area` that touch the edge of the image or what is already hidden."""
    solid = ndimage.binary_opening(np.pad(area | hidden, 4, mode="edge"), np.ones((7, 7)))[4:-4, 4:-4]
    parts, count = ndimage.label(solid, np.ones((3, 3)))
    if not count:
        return solid
    edge = np.unique(np.r_[parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    sizes = np.bincount(parts.ravel())
    keep = [p for p in edge if p > 0 and sizes[p] >= LEAST_BORDER * area.size]
    found = np.isin(parts, keep)
    # the outermost pixels of a collimator are a blurred step: two more
    return ndimage.binary_dilation(found, np.ones((3, 3)), iterations=2) if found.any() else found


def _markers(values: np.ndarray, area: np.ndarray, keep: np.ndarray, step: float) -> np.ndarray:
    """Compact parts of `area` (the lowest values) with a sharp outline, holes filled, two pixels wider."""
    found = np.zeros(area.shape, bool)
    parts, count = ndimage.label(area, np.ones((3, 3)))
    if not count:
        return found
    sizes = np.bincount(parts.ravel())
    for index, box in enumerate(ndimage.find_objects(parts), start=1):
        if not MARKER_PIXELS[0] <= sizes[index] <= MARKER_PIXELS[1] * area.size:
            continue
        box = tuple(slice(max(s.start - 4, 0), s.stop + 4) for s in box)
        part = parts[box] == index
        near = ndimage.binary_dilation(part, np.ones((3, 3)))
        ring = ndimage.binary_dilation(near, np.ones((3, 3))) & ~near & keep[box]
        if not ring.any():
            continue
        inside = float(np.median(values[box][part]))
        if np.percentile(values[box][ring] - inside, 20) > step:
            found[box] |= ndimage.binary_dilation(ndimage.binary_fill_holes(part), np.ones((3, 3)), iterations=2)
    return found
