"""What a DICOM header itself marks as hidden: padding, display shutters and collimators."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from bmdkit.io.dicom_header import DicomHeader, Opening

LEAST_OPEN = 0.1
"""A shutter that leaves less of the image open is an error of its numbers."""


def mask_outside(header: DicomHeader, shape: tuple[int, int], source: Literal["Shutter", "Collimator"]) -> np.ndarray:
    """[row, column], bool, True outside every opening that the tags of one kind describe plausibly.

    Args:
        header: Header of the image.
        shape: (rows, columns) of the image.
        source: A display shutter hides pixels; a collimator's tags are a hypothesis, to be held against the image.
    """
    seen = np.ones(shape, bool)
    for opening in header.radiograph.openings:
        if opening.source == source:
            inside = _draw(opening, shape)
            if inside.mean() >= LEAST_OPEN:
                seen &= inside
    return ~seen


def find_odd_shutters(header: DicomHeader, shape: tuple[int, int]) -> tuple[str, ...]:
    """Warnings of openings that cannot be meant in pixels of the image, and are not used."""
    return tuple(
        f"{opening.source} tags leave {_draw(opening, shape).mean():.0%} of the image open and are not used"
        for opening in header.radiograph.openings
        if _draw(opening, shape).mean() < LEAST_OPEN
    )


def _draw(opening: Opening, shape: tuple[int, int]) -> np.ndarray:
    """[row, column], bool, True within one opening."""
    rows, columns = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    match opening.shape:
        case "RECTANGULAR":
            left, right, upper, lower = opening.numbers
            return np.asarray((columns > left) & (columns < right) & (rows > upper) & (rows < lower))
        case "CIRCULAR":
            row, column, radius = opening.numbers
            return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)
        case "POLYGONAL":
            from skimage.draw import polygon2mask

            return np.asarray(polygon2mask(shape, np.array(opening.numbers).reshape(-1, 2) - 1))


def mask_padding(header: DicomHeader, stored: np.ndarray) -> np.ndarray:
    """[row, column], bool, areas of the padding value (or range) that reach the edge of the image."""
    if header.padding is None:
        return np.zeros(stored.shape, bool)
    low, high = header.padding
    same = (stored >= low) & (stored <= high)
    parts, count = ndimage.label(same)  # padding is an area at the border, not the odd pixel of that value
    if not count:
        return np.asarray(same)
    edge = np.unique(np.r_[parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return np.asarray(np.isin(parts, edge[edge > 0]))
