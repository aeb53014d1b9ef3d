"""Two-dimensional images as TIFF and PNG, the same bytes for the same pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bmdkit.io.results import write_bytes


def write_tiff(path: Path, pages: np.ndarray) -> None:
    """Write one page per image, uncompressed.

    Args:
        path: File to be written.
        pages: (rows, columns) or (n, rows, columns), float32, uint8 or uint16.
    """
    import tifffile

    pages = np.asarray(pages)
    if pages.ndim not in (2, 3) or pages.dtype not in (np.float32, np.uint8, np.uint16):
        raise ValueError(f"pages: expected 2-D or 3-D float32, uint8 or uint16, got {pages.ndim}-D {pages.dtype}")
    stack = np.ascontiguousarray(pages.reshape(-1, *pages.shape[-2:]))
    file = io.BytesIO()  # written whole below: NumPy's own writing to a full disk hides the cause
    with tifffile.TiffWriter(file) as writer:
        for page in stack:
            writer.write(page, photometric="minisblack", metadata=None, software="bmdkit", contiguous=False)
    write_bytes(path, file.getvalue())


def read_tiff(path: Path | BinaryIO) -> np.ndarray:
    """All pages of a file, or of its bytes, (n, rows, columns), in the file's own type."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        return np.stack([page.asarray() for page in file.pages])


def write_png(path: Path, image: np.ndarray) -> None:
    """Write (rows, columns) or (rows, columns, 3), uint8 (grey also uint16)."""
    from PIL import Image

    image = np.asarray(image)
    grey16 = image.ndim == 2 and image.dtype == np.uint16
    if image.ndim not in (2, 3) or not (image.dtype == np.uint8 or grey16):
        raise ValueError(f"image: expected 2-D or 3-D uint8, got {image.ndim}-D {image.dtype}")
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, format="PNG")
    write_bytes(path, file.getvalue())
