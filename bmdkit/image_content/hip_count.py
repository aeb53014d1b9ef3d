"""Whether a radiograph shows one hip or two: a frontal pelvis is nearly symmetric about its midline."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from bmdkit.core.radiograph import SingleHip
from bmdkit.image_content.polarity import LEAST_SIDE, reduce_image

SEARCH_SIDE = 160
"""Longer side of the image in which the midline is searched, pixels."""
FINE_SIGMA, COARSE_SIGMA = 1.5, 8.0
"""Structures between these widths are compared with their mirror image, pixels."""
SLOPES = (-0.06, -0.03, 0.0, 0.03, 0.06)
"""Tilts of the midline."""
LEAST_OVERLAP = 0.25
"""The least part of the field's width that is compared with its mirror image."""
CENTRAL = 0.14
"""A midline this near to the middle of the field, as a part of its width, leaves a hip on both sides."""
LEAST_SYMMETRY = 0.45
"""The least correlation with the mirror image that makes a midline."""
LEAST_BLANK = 0.98
"""The least part of a half that has one value, where the half has been painted over."""
TWO_HIPS_MM = 260.0
"""A narrower field cannot hold both proximal femurs of an adult, at the detector."""


class Midline(NamedTuple):
    """The axis of the best mirror symmetry.

    Attributes:
        place: Column, as a part of the width of the field, 0 to 1.
        symmetry: Correlation of the structures with their mirror image.
    """

    place: float
    symmetry: float


def find_single_hip(values: np.ndarray, mask: np.ndarray, column_spacing_mm: float | None) -> SingleHip | None:
    """Find the part of a radiograph that shows its only hip; None where both hips are shown, or nothing tells.

    Args:
        values: [row, column], brighter = denser, any scale.
        mask: [row, column], bool, True where the pixel is image.
        column_spacing_mm: At the detector; None where it is not known.
    """
    columns = np.flatnonzero(mask.any(axis=0))
    if min(values.shape) < LEAST_SIDE or columns.size < LEAST_SIDE // 2:
        return None
    first, width = float(columns[0]), float(columns[-1] - columns[0] + 1)
    is_narrow = column_spacing_mm is not None and width * column_spacing_mm < TWO_HIPS_MM
    middle = int(first + width / 2)
    halves = (np.s_[:middle], np.s_[middle:])
    if not is_narrow and any(is_blank(values[:, half], mask[:, half]) for half in halves):
        return None
    midlines = measure_symmetry(values, mask)
    if not midlines:
        return None
    central = [line.symmetry for line in midlines if abs(line.place - 0.5) <= CENTRAL]
    best = max(midlines, key=lambda line: line.symmetry)
    if max(central, default=-1.0) >= LEAST_SYMMETRY:
        return None
    if abs(best.place - 0.5) > CENTRAL and best.symmetry >= LEAST_SYMMETRY:
        column = first + best.place * width
        if best.place < 0.5:  # what lies right of the midline in the image is the patient's left
            return SingleHip(column, first + width, "L")
        return SingleHip(first, column, "R")
    if is_narrow:
        return SingleHip(first, first + width, None)
    return None


def is_blank(values: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a part of a radiograph has been painted over: nearly all of its image is one value.

    Such a part tells nothing of the midline; the hips are where the whole image says.
    """
    seen = values[mask]
    return seen.size > 0 and bool((seen == np.median(seen)).mean() >= LEAST_BLANK)


def measure_symmetry(values: np.ndarray, mask: np.ndarray) -> list[Midline]:
    """The mirror symmetry about every column that leaves enough on both sides."""
    image, known = reduce_image(values, mask, SEARCH_SIDE)
    if known.sum() < 1000:
        return []
    weight, filled = known.astype(np.float32), np.where(known, image, 0)
    smooth = [
        ndimage.gaussian_filter(filled, sigma) / np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-3)
        for sigma in (FINE_SIGMA, COARSE_SIGMA)
    ]
    detail = smooth[0] - smooth[1]
    detail = np.clip(detail / max(float(detail[known].std()), 1e-9), -3, 3)
    columns = np.flatnonzero(known.any(axis=0))
    first, last = int(columns[0]), int(columns[-1])
    width = last - first + 1
    found = []
    for twice in range(2 * first + 1, 2 * last):  # a column and its mirror image sum up to this
        low, high = max(first, twice - last), min(last, twice - first)
        if high - low + 1 >= LEAST_OVERLAP * width:
            symmetry = max(_correlate(detail, known, np.arange(low, high + 1), twice, slope) for slope in SLOPES)
            found.append(Midline((twice / 2 + 0.5 - first) / width, symmetry))
    return found


def _correlate(detail: np.ndarray, known: np.ndarray, columns: np.ndarray, twice: int, slope: float) -> float:
    """Correlation of columns with their mirror images about a tilted axis; -1 where too few pixels are known."""
    rows = np.arange(len(detail))[:, None] + np.rint(slope * (2 * columns - twice)).astype(int)[None]
    inside = (rows >= 0) & (rows < len(detail))
    rows = np.clip(rows, 0, len(detail) - 1)
    mirrored = (twice - columns)[None]
    both = known[:, columns] & known[rows, mirrored] & inside
    if both.sum() < 400:
        return -1.0
    one, other = detail[:, columns][both], detail[rows, mirrored][both]
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).mean() / max(float(one.std() * other.std()), 1e-9))
