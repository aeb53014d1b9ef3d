"""The pixels of a TIFF's pages, whatever it is compressed with that Pillow or tifffile can read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tifffile import TiffPage

_MIN_IS_WHITE = 0


def decode_page(path: Path, page: TiffPage) -> np.ndarray:
    """Decode one page of a TIFF as it is stored.

    LZW and PackBits need a codec that tifffile does not bring; Pillow has one for grey pages.

    Args:
        path: The file.
        page: The page.

    Raises:
        ValueError: Nothing here decodes it.
    """
    try:
        return np.asarray(page.asarray())
    except ValueError as error:  # "requires the imagecodecs package"
        if page.samplesperpixel != 1 or page.photometric not in (0, 1):
            raise
        return _decode_with_pillow(path, page, error)


def _decode_with_pillow(path: Path, page: TiffPage, error: ValueError) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as opened:
        opened.seek(page.index)
        pixels = np.array(opened)
    if pixels.shape != page.shape or pixels.dtype.itemsize != np.dtype(page.dtype).itemsize:
        raise error
    pixels = pixels.astype(page.dtype)
    if page.photometric == _MIN_IS_WHITE and pixels.dtype == np.uint8:  # Pillow has inverted it
        pixels = np.iinfo(np.uint8).max - pixels
    return pixels
