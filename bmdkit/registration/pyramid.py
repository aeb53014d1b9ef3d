"""A radiograph at the pixel sizes of the search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.similarity import FixedImage


@dataclass(frozen=True, eq=False)
class Level:
    """One pixel size: the image to be matched, and the camera that sees it."""

    fixed: FixedImage
    geometry: ProjectionGeometry


def bin_pixels(radiograph: Radiograph, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of factor x factor pixels over what is image, and where nearly all of them are."""
    rows, cols = (n // factor for n in radiograph.shape)
    window = slice(rows * factor), slice(cols * factor)
    mask = radiograph.mask[window].astype(np.float32)
    image = radiograph.pixels[window] * mask
    blocks = (rows, factor, cols, factor)
    share = mask.reshape(blocks).mean((1, 3))
    total = image.reshape(blocks).mean((1, 3))
    level = float(total.sum() / max(share.sum(), 1e-12))
    return np.where(share > 0, total / np.maximum(share, 1e-12), level).astype(np.float32), share > 0.9


def make_level(
    radiograph: Radiograph,
    geometry: ProjectionGeometry,
    pixel_mm: float,
    config: RegistrationConfig,
    *,
    patch_mm: float | None = None,
) -> Level:
    """Average the radiograph to pixels of about `pixel_mm`; finer ones are never made."""
    own = (geometry.column_spacing_mm + geometry.row_spacing_mm) / 2
    factor = max(round(pixel_mm / own), 1)
    factor = min(factor, max(min(radiograph.shape) // 8, 1))
    image, valid = bin_pixels(radiograph, factor)
    cell = max(round((patch_mm or config.patch_mm) / 2 / (own * factor)), 2)
    return Level(FixedImage.of(image, valid, measure=config.similarity, cell=cell), geometry.binned(factor))
