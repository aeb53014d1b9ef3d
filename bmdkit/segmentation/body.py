"""Where the patient lies in a CT: nothing else needs to be segmented."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmdkit.core.volume import Volume, bounding_box

SKIN_HU = -300.0
_STEP_MM = 3.0  # of the coarse grid
_MARGIN_MM = 8.0
_TABLE_MM = 12.0  # thinner than this is no body


def body_box(ct: Volume) -> tuple[slice, slice, slice]:
    """The box around the largest body in a CT, with a margin; the whole CT where there is none.

    The couch and other thin things do not count; what touches the patient may.

    Args:
        ct: HU.
    """
    ct = ct.require("hu")
    steps = np.maximum(np.rint(_STEP_MM / ct.grid.spacing_mm[::-1]), 1).astype(int)
    coarse = ct.array[:: steps[0], :: steps[1], :: steps[2]] > SKIN_HU
    spacing = steps * ct.grid.spacing_mm[::-1]
    radius = [max(round(_TABLE_MM / 2 / s), 1) for s in spacing[1:]]
    opened = ndimage.binary_opening(coarse, np.ones((1, 2 * radius[0] + 1, 2 * radius[1] + 1), bool))
    parts, count = ndimage.label(opened)
    if count == 0:
        return whole_box(ct)
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    grow = np.ceil(_MARGIN_MM / ct.grid.spacing_mm[::-1]).astype(int) + steps
    slices, rows, columns = (
        slice(max(int(b.start * s - g), 0), min(int((b.stop - 1) * s + 1 + g), n))
        for b, s, g, n in zip(bounding_box(largest), steps, grow, ct.grid.shape, strict=True)
    )
    return slices, rows, columns


def whole_box(ct: Volume) -> tuple[slice, slice, slice]:
    """The box around the whole CT."""
    slices, rows, columns = ct.grid.shape
    return slice(0, slices), slice(0, rows), slice(0, columns)
