"""Lead letters and other small opaque things beside the patient: denser than all that is around them, and that is even.

They need not reach the end of the range: thin lead lets some of the beam through, and their edges are blurred.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SIDE = 860
"""Longer side of the image in which they are looked for, pixels."""
STROKE = 0.03
"""The widest stroke, as a part of the longer side."""
EXTENT = 0.08
"""The largest extent, as a part of the longer side."""
LEAST_PIXELS = 12
"""The smallest one, pixels of the search."""
CONTRAST = 0.25
"""By how much it has to be denser than its surroundings, as a part of the image's range."""
EVEN = 0.3
"""The largest spread of the surroundings, as a part of the contrast."""
_RING = (3, 6)  # pixels of the search about it, from and to


def find_letters(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Find small opaque things on even ground.

    Args:
        values: [row, column], any scale, brighter = denser.
        seen: [row, column], bool; pixels that are already known to be no image are False.

    Returns:
        [row, column], bool, True where one lies.
    """
    found = np.zeros(values.shape, bool)
    factor = max(-(-max(values.shape) // SIDE), 1)
    rows, columns = (size // factor for size in values.shape)
    if min(rows, columns) < 32 or not seen.any():
        return found
    blocks, tiled = np.s_[: rows * factor, : columns * factor], (rows, factor, columns, factor)
    known = np.asarray(seen[blocks].reshape(tiled).all((1, 3)))
    image = values[blocks].reshape(tiled).mean((1, 3)).astype(np.float32)
    if known.sum() < 100:
        return found
    low, high = np.percentile(image[known], (1, 99))
    if not high > low:
        return found
    image = np.where(known, np.clip((image - low) / (high - low), 0, None), 0).astype(np.float32)
    stroke = int(STROKE * max(rows, columns)) | 1
    raised = (image - ndimage.grey_opening(image, (stroke, stroke)) > CONTRAST) & known
    parts, _ = ndimage.label(raised, np.ones((3, 3), bool))
    small = np.zeros(raised.shape, bool)
    for index, box in enumerate(ndimage.find_objects(parts), start=1):
        if max(s.stop - s.start for s in box) <= EXTENT * max(rows, columns):
            wide = tuple(slice(max(s.start - _RING[1], 0), s.stop + _RING[1]) for s in box)
            part = parts[wide] == index
            if part.sum() >= LEAST_PIXELS and _stands_alone(image[wide], part, known[wide]):
                small[wide] |= ndimage.binary_dilation(ndimage.binary_fill_holes(part), np.ones((3, 3), bool), 2)
    found[blocks] = np.repeat(np.repeat(small, factor, 0), factor, 1)
    return found & seen


def _stands_alone(image: np.ndarray, part: np.ndarray, known: np.ndarray) -> bool:
    """Whether what is around a part is even, and much less dense."""
    square = np.ones((3, 3), bool)
    near = ndimage.binary_dilation(part, square, _RING[0])
    ring = ndimage.binary_dilation(near, square, _RING[1] - _RING[0]) & ~near & known
    if ring.sum() < part.size**0.5:
        return False
    low, high = np.percentile(image[ring], (5, 95))
    contrast = float(np.median(image[part]) - np.median(image[ring]))
    return bool(contrast > CONTRAST and high - low < EVEN * contrast)
