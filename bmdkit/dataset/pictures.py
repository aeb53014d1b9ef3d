"""Pictures that are drawn while the CT is at hand, for the report: the rods on their slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmdkit.calibration.line import Rod
from bmdkit.core.planes import Plane
from bmdkit.core.volume import Volume

_WINDOW_HU = (-200.0, 400.0)
_PIXEL_MM = 0.6
_RING, _WORD = (214, 33, 156), (255, 255, 255)
_RING_MM = 12.0


def rods_on_slice(ct: Volume, rods: Sequence[Rod]) -> np.ndarray:
    """The axial slice through the middle of the rods, each ringed and named by its density, mg/cm3.

    Args:
        ct: HU.
        rods: Those with a place are drawn; at least one has to have it.

    Returns:
        (rows, columns, 3), uint8; patient left on the right, front above.
    """
    from PIL import Image, ImageDraw, ImageFont

    rods = [rod for rod in rods if rod.center_lps_mm is not None]
    if not rods:
        raise ValueError("rods: expected at least one with a place")
    corners = ct.grid.corners()
    centres = np.array([rod.center_lps_mm for rod in rods], float)
    plane = Plane.through("axial", centres.mean(axis=0), corners.min(axis=0), corners.max(axis=0), _PIXEL_MM)
    cut = plane.cut(ct.require("hu").array, ct.grid, fill=_WINDOW_HU[0])
    low, high = _WINDOW_HU
    grey = np.rint(255 * np.clip((cut - low) / (high - low), 0, 1)).astype(np.uint8)
    picture = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=17)
    uv = plane.pixels(centres)
    radius = _RING_MM / _PIXEL_MM
    towards = -1 if uv[:, 1].mean() > plane.rows / 2 else 1  # names on the side of the picture's middle
    for (u, v), rod in zip(uv, rods, strict=True):
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), outline=_RING, width=2)
        at = (u, v + towards * (radius + 14))
        draw.text(at, f"{rod.density_mg_cm3:g}", fill=_WORD, font=font, anchor="mm")
    return np.asarray(picture)
