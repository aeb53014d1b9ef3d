"""The stored values of a DICOM image."""

from __future__ import annotations

import warnings

import numpy as np

from bmdkit.io.dicom_files import UNCOMPRESSED, UnreadableError
from bmdkit.io.dicom_header import DicomImage


def decode_grey_frame(image: DicomImage) -> np.ndarray:
    """Decode the one grey frame of an image.

    Returns:
        Stored values, int32 (rows, columns): only BitsStored bits, sign extended.

    Raises:
        UnreadableError: The pixels are absent, short, or their codec fails.
    """
    if "PixelData" not in image.data_set:
        raise UnreadableError("it has no pixels")
    if image.header.transfer_syntax_uid in UNCOMPRESSED:
        return _unpack(image)
    shape = image.header.pixels.shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = np.asarray(image.data_set.pixel_array)
    except MemoryError:
        raise
    except Exception as error:  # codecs fail in their own ways
        raise UnreadableError(f"its pixels cannot be decoded ({type(error).__name__}: {str(error)[:160]})") from error
    if pixels.shape != shape:
        raise UnreadableError(f"its pixels have the shape {pixels.shape}")
    return pixels.astype(np.int32)


def _unpack(image: DicomImage) -> np.ndarray:
    """Plain numbers of the file's byte order, their unused bits dropped."""
    pixels, data = image.header.pixels, image.data_set.PixelData
    (rows, columns), (allocated, stored, high) = pixels.shape, pixels.bits
    needed = rows * columns * allocated // 8
    order = ">" if image.header.transfer_syntax_uid == UNCOMPRESSED[2] else "<"
    if len(data) - needed not in (0, needed % 2):
        raise UnreadableError(f"{len(data)} bytes of pixels, {needed} announced: truncated or damaged")
    raw = np.frombuffer(data, f"{order}u{allocated // 8}", count=rows * columns)
    bits = raw.reshape(rows, columns).astype(np.int64) >> (high + 1 - stored)
    bits &= (1 << stored) - 1
    if pixels.is_signed:
        bits -= (bits >> (stored - 1)) << stored
    return bits.astype(np.int32)
