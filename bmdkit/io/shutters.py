"""What a DICOM header itself marks as hidden: padding, display shutters and collimators."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmdkit.io.dicom_header import DicomHeader, Opening


def mask_outside_openings(header: DicomHeader, shape: tuple[int, int]) -> np.ndarray:
    """[row, column], bool, True outside every shutter and collimator that the header describes."""
    seen = np.ones(shape, bool)
    for opening in header.radiograph.openings:
        inside = _draw(opening, shape)
        if inside.any():
            seen &= inside
    return ~seen


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
