"""Values outside the field of view of a CT that its header does not declare as padding."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

AIR_HU = -1024
BELOW_AIR_HU = -1100
"""No tissue and no air has values below; noise and streaks scatter there and are never one value over an area."""
AIR_RANGE_HU = (-1100, -700)
"""What the corners of an image may hold over an area: air."""
LEAST_PART = 0.001
"""The smallest area of padding, as a part of its slice."""


def fill_padding(array: np.ndarray) -> tuple[np.ndarray, int]:
    """Set padding that no header declares to air.

    Padding is one value over an area that reaches the edge of a slice: one below all air anywhere, or any value other
    than air that fills all four corners.

    Args:
        array: [slice, row, column], HU.

    Returns:
        The array, a copy where something had to be set; and the number of slices with padding.
    """
    filled, count = array, 0
    for k in range(array.shape[0]):
        area = _find_padding(array[k])
        if area is None:
            continue
        if filled is array:
            filled = array.copy()
        filled[k][area] = AIR_HU
        count += 1
    return filled, count


def _find_padding(piece: np.ndarray) -> np.ndarray | None:
    """[row, column], bool, where one slice is padded; None if it is not."""
    corners = {float(piece[row, column]) for row in (0, -1) for column in (0, -1)}
    lowest = float(piece.min())
    found = None
    if lowest < BELOW_AIR_HU:
        area = piece == lowest
        if area.mean() >= LEAST_PART and _reaches_edge(area):
            found = area
    value = corners.pop() if len(corners) == 1 else AIR_HU
    if AIR_RANGE_HU[0] <= value <= AIR_RANGE_HU[1] or (found is not None and value == lowest):
        return found
    parts, _ = ndimage.label(piece == value)
    area = np.isin(parts, [parts[row, column] for row in (0, -1) for column in (0, -1)])
    if area.mean() < LEAST_PART:
        return found
    return area if found is None else found | area


def _reaches_edge(area: np.ndarray) -> bool:
    return bool(area[0].any() or area[-1].any() or area[:, 0].any() or area[:, -1].any())
