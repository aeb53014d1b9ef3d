"""Which pixels of a radiograph are image: borders, what lies behind a collimator, and burned-in markers are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.image_content.collimation import find_edges, find_round_field
from bmdkit.image_content.lead_letters import find_letters

FLAT_FRACTION = 0.004
"""How far from the extreme value, as a part of the range, a pixel of a border or a marker may lie."""
LEAST_BORDER = 0.003
"""The smallest border, as a part of the image."""
MARKER_PIXELS = (12, 0.03)
"""The smallest marker, in pixels, and the largest, as a part of the image."""
STEP = 0.12
"""By how much the pixels around a border or a marker have to differ from it at once, as a part of the range."""
AIR_STEP = 0.2
"""The same around the lowest values, which direct exposure has too: in large pixels skin rises fast beside it."""
SHARP_PART = 0.4
"""The least part of a border's outline that has such a step: air at the skin and dense bone fade out instead."""


def find_image_area(values: np.ndarray, seen: np.ndarray, *, borders: bool = True, markers: bool = True) -> np.ndarray:
    """Find what is image.

    Borders are thick connected areas of one extreme value that reach the edge of the image (a collimator may be
    turned), or leave it round; markers are compact ones inside it, or letters of lead on even ground. The surroundings
    of a border or marker differ at once; bone that saturates, or air beside the skin, fades out instead. Behind the
    blades of a collimator nothing needs to be flat: `collimation` finds their edges.

    Args:
        values: [row, column], any scale, brighter = denser.
        seen: [row, column], bool; pixels that are already known to be no image are False.
        borders: Whether borders and collimators are looked for.
        markers: Whether markers are looked for.

    Returns:
        [row, column], bool, True where the pixel is image.
    """
    keep = seen.copy()
    extremes = _find_extremes(values, keep)
    if extremes is None:
        return keep
    if borders:
        for sign, area, step in zip((1.0, -1.0), extremes.areas, (AIR_STEP, STEP), strict=True):
            keep &= ~_border(sign * values, area, ~seen, step * extremes.spread)
        for edge in find_edges(values, keep, find_round_field(values, seen)):
            keep &= edge.opening(values.shape)
    if markers and (extremes := _find_extremes(values, keep)) is not None:
        for sign, area in zip((1.0, -1.0), extremes.areas, strict=True):
            keep &= ~_markers(sign * values, area & keep, keep, STEP * extremes.spread)
        keep &= ~find_letters(values, keep)
    return keep


@dataclass(frozen=True, eq=False)
class _Extremes:
    """The lowest and the highest values of an image.

    Attributes:
        areas: Where the lowest and where the highest values lie, [row, column], bool.
        spread: Robust range of what lies between.
    """

    areas: tuple[np.ndarray, np.ndarray]
    spread: float


def _find_extremes(values: np.ndarray, seen: np.ndarray) -> _Extremes | None:
    """None where the image is blank or has no values between the extremes."""
    inside = values[seen]
    if inside.size == 0 or inside.min() == inside.max():
        return None
    low, high = float(inside.min()), float(inside.max())
    flat = FLAT_FRACTION * (high - low)
    areas = (seen & (values <= low + flat), seen & (values >= high - flat))
    between = values[seen & ~areas[0] & ~areas[1]]
    if between.size == 0:
        return None
    return _Extremes(areas, float(np.subtract(*np.percentile(between, (99, 1)))))


def _border(values: np.ndarray, area: np.ndarray, hidden: np.ndarray, step: float) -> np.ndarray:
    """The thick parts of `area` (the lowest values) that touch the edge of the image or what is already hidden."""
    found = np.zeros(area.shape, bool)
    if not area.any():
        return found
    solid = ndimage.binary_opening(np.pad(area | hidden, 4, mode="edge"), np.ones((7, 7), bool))[4:-4, 4:-4]
    parts, count = ndimage.label(solid, np.ones((3, 3), bool))
    if not count:
        return found
    sizes = np.bincount(parts[area], minlength=count + 1)
    for index in np.unique(np.r_[parts[0], parts[-1], parts[:, 0], parts[:, -1]]):
        if index == 0 or sizes[index] < LEAST_BORDER * area.size:
            continue
        part = ndimage.binary_dilation(parts == index, np.ones((3, 3), bool), iterations=2)
        ring = ndimage.binary_dilation(part, np.ones((3, 3), bool)) & ~part & ~hidden
        rise = values[ring] - values[area].max()
        if ring.any() and np.mean(rise > step) >= SHARP_PART:
            found |= part  # two pixels wider than what is flat: the edge of a collimator is blurred
    return found


def _markers(values: np.ndarray, area: np.ndarray, keep: np.ndarray, step: float) -> np.ndarray:
    """Compact parts of `area` (the lowest values) with a sharp outline, holes filled, two pixels wider."""
    found = np.zeros(area.shape, bool)
    parts, count = ndimage.label(area, np.ones((3, 3), bool))
    if not count:
        return found
    sizes = np.bincount(parts.ravel())
    for index, box in enumerate(ndimage.find_objects(parts), start=1):
        if not MARKER_PIXELS[0] <= sizes[index] <= MARKER_PIXELS[1] * area.size:
            continue
        box = tuple(slice(max(s.start - 4, 0), s.stop + 4) for s in box)
        part = parts[box] == index
        near = ndimage.binary_dilation(part, np.ones((3, 3), bool))
        ring = ndimage.binary_dilation(near, np.ones((3, 3), bool)) & ~near & keep[box]
        if not ring.any():
            continue
        inside = float(np.median(values[box][part]))
        if np.percentile(values[box][ring] - inside, 20) > step:
            found[box] |= ndimage.binary_dilation(ndimage.binary_fill_holes(part), np.ones((3, 3), bool), iterations=2)
    return found
