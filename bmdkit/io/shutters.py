"""What a DICOM header itself marks as hidden: padding, display shutters and collimators."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmdkit.io.dicom_header import number, numbers, words

_EDGES = ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")


def hidden_by_shutters(header, shape: tuple[int, int]) -> np.ndarray:
    """[row, column], bool, True outside every shutter and collimator that the header describes (1-based pixels)."""
    seen = np.ones(shape, bool)
    for kind in ("Shutter", "Collimator"):
        for form in words(header, f"{kind}Shape"):
            opening = _opening(header, kind, form, shape)
            if opening is not None and opening.any():
                seen &= opening
    return ~seen


def _opening(header, kind: str, form: str, shape: tuple[int, int]) -> np.ndarray | None:
    rows, columns = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    if form == "RECTANGULAR":
        edges = [numbers(header, f"{kind}{edge}") for edge in _EDGES]
        if any(edge is None for edge in edges):
            return None
        left, right, upper, lower = (edge[0] for edge in edges)
        return (columns > left) & (columns < right) & (rows > upper) & (rows < lower)
    if form == "CIRCULAR":
        name = "CenterOfCircular" + kind
        centre, radius = numbers(header, name), numbers(header, f"RadiusOfCircular{kind}")
        if centre is None or len(centre) != 2 or radius is None:
            return None
        return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius[0] ** 2
    if form == "POLYGONAL":
        corners = numbers(header, f"VerticesOfThePolygonal{kind}")
        if corners is None or len(corners) < 6 or len(corners) % 2:
            return None
        from skimage.draw import polygon2mask

        return polygon2mask(shape, np.array(corners).reshape(-1, 2) - 1)
    return None


def padding(header, stored: np.ndarray) -> np.ndarray:
    """[row, column], bool, areas of the padding value (or range) that reach the edge of the image."""
    value, limit = number(header, "PixelPaddingValue"), number(header, "PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(stored.shape, bool)
    low, high = sorted((value, value if limit is None else limit))
    same = (stored >= low) & (stored <= high)
    parts, count = ndimage.label(same)  # padding is an area at the border, not the odd pixel of that value
    if not count:
        return same
    edge = np.unique(np.r_[parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return np.isin(parts, edge[edge > 0])
