"""The stored values of a DICOM image."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from bmdkit.io.dicom_files import UNCOMPRESSED, MissingDecoderError, UnreadableError
from bmdkit.io.dicom_header import PixelFormat
from bmdkit.io.dicom_parsing import DicomImage

DECODERS = {
    "1.2.840.10008.1.2.4.50": ("JPEG Baseline", ("gdcm", "libjpeg")),
    "1.2.840.10008.1.2.4.51": ("JPEG Extended", ("libjpeg",)),
    "1.2.840.10008.1.2.4.57": ("JPEG Lossless", ("gdcm", "libjpeg")),
    "1.2.840.10008.1.2.4.70": ("JPEG Lossless", ("gdcm", "libjpeg")),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS", ("gdcm", "jpeg_ls", "libjpeg")),
    "1.2.840.10008.1.2.4.81": ("JPEG-LS", ("gdcm", "jpeg_ls", "libjpeg")),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000", ("gdcm", "openjpeg")),
    "1.2.840.10008.1.2.4.91": ("JPEG 2000", ("gdcm", "openjpeg")),
    "1.2.840.10008.1.2.4.201": ("High-Throughput JPEG 2000", ("openjpeg",)),
    "1.2.840.10008.1.2.4.202": ("High-Throughput JPEG 2000", ("openjpeg",)),
    "1.2.840.10008.1.2.4.203": ("High-Throughput JPEG 2000", ("openjpeg",)),
}
"""Transfer syntax -> its name, and the modules that decode it in every depth."""

MOST_ABOVE = 0.05
"""The largest part of the pixels that may lie above BitsStored, as metal does; rubbish or an overlay fills more."""
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


@dataclass(frozen=True, eq=False)
class GreyFrame:
    """One grey frame.

    Attributes:
        stored: Stored values, int32 (rows, columns), sign extended.
        warnings: What of the file contradicts its header and was put up with.
    """

    stored: np.ndarray
    warnings: tuple[str, ...]


def decode_grey_frame(image: DicomImage, frame: int = 0) -> GreyFrame:
    """Decode one grey frame of an image.

    Args:
        image: The file.
        frame: Number of the frame, from 0.

    Raises:
        MissingDecoderError: No package that is installed decodes them.
        UnreadableError: The pixels are absent, short, or their codec fails.
    """
    if "PixelData" not in image.data_set:
        raise UnreadableError("it has no pixels")
    if image.header.transfer_syntax_uid in UNCOMPRESSED:
        return _unpack(image, frame)
    shape = image.header.pixels.shape
    pixels = decode_with_codec(image, frame)
    if pixels.shape != shape:
        raise UnreadableError(f"its pixels have the shape {pixels.shape}")
    return GreyFrame(pixels.astype(np.int32), image.warnings)


def decode_with_codec(image: DicomImage, frame: int = 0) -> np.ndarray:
    """Decode one frame by the codec of its transfer syntax; colours come as RGB.

    Raises:
        MissingDecoderError: No package that is installed decodes them.
        UnreadableError: The codec fails.
    """
    from pydicom.pixels import pixel_array

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(pixel_array(image.data_set, index=frame))
    except MemoryError:
        raise
    except Exception as error:  # codecs fail in their own ways
        _require_decoder(image, error)
        raise UnreadableError(f"its pixels cannot be decoded ({type(error).__name__}: {str(error)[:160]})") from error


def _require_decoder(image: DicomImage, error: Exception) -> None:
    """Tell a decoder that is not there from one that fails.

    Raises:
        MissingDecoderError: None of the packages that decode the file is installed.
    """
    syntax = image.header.transfer_syntax_uid
    name, modules = DECODERS.get(syntax, ("", ()))
    if syntax == _JPEG_EXTENDED and (image.header.pixels.bits_stored or 0) <= 8:
        modules = ("gdcm", "PIL")
    if modules and all(find_spec(module) is None for module in modules):
        raise MissingDecoderError(f"no decoder for {name} is installed") from error


def _unpack(image: DicomImage, frame: int) -> GreyFrame:
    """Plain numbers of the file's byte order, their unused bits dropped."""
    pixels, data = image.header.pixels, _take_bytes(image)
    (rows, columns), (allocated, stored, high) = pixels.shape, pixels.bits
    one = rows * columns * allocated // 8
    needed = one * pixels.frames
    order = ">" if image.header.transfer_syntax_uid == UNCOMPRESSED[2] else "<"
    warned = image.warnings
    excess = len(data) - needed
    if excess < 0 or (excess >= columns * allocated // 8 and data[needed:].strip(data[-1:])):
        raise UnreadableError(f"{len(data)} bytes of pixels, {needed} announced: truncated or damaged")
    if excess > needed % 2:
        warned += ("bytes of padding within the pixel data",)
    raw = np.frombuffer(data, f"{order}u{allocated // 8}", count=rows * columns, offset=frame * one)
    words = raw.reshape(rows, columns).astype(np.int64)
    if high == stored - 1 and not pixels.overlay_bits and (whole := _read_whole_words(words, pixels)) is not None:
        return GreyFrame(whole, (*warned, "values above BitsStored, taken as they are"))
    bits = words >> (high + 1 - stored)
    bits &= (1 << stored) - 1
    if pixels.is_signed:
        bits -= (bits >> (stored - 1)) << stored
    return GreyFrame(bits.astype(np.int32), warned)


def _take_bytes(image: DicomImage) -> bytes:
    """The value of the pixel data.

    Raises:
        UnreadableError: Its element is damaged.
    """
    try:
        data = image.data_set.PixelData
    except MemoryError:
        raise
    except Exception as error:  # a mutated element can fail in any way
        raise UnreadableError(f"its pixels cannot be read ({type(error).__name__})") from error
    if not isinstance(data, bytes):
        raise UnreadableError(f"its pixels are of type {type(data).__name__}")
    return data


def _read_whole_words(words: np.ndarray, pixels: PixelFormat) -> np.ndarray | None:
    """Values of all allocated bits, int32, where some exceed the bits that are said to be stored; else None.

    Bits that are set in more than a few pixels are something else than values, and left out. Unsigned values exceed
    the stored bits if any higher bit is set. Signed ones do if the higher bits are neither zeros nor the sign's; where
    the file extends the sign of negative values, a sign bit without that extension is a large value.
    """
    allocated, stored, _ = pixels.bits
    if stored == allocated:
        return None
    upper = words >> stored
    if not pixels.is_signed:
        above, values = upper != 0, words
    else:
        every = (1 << (allocated - stored)) - 1
        sign = (words >> (stored - 1)) & 1
        values = words - ((words >> (allocated - 1)) << allocated)
        is_extended = bool(((upper == every) & (sign == 1)).any())
        above = ((upper != 0) & ((upper != every) | (sign == 0))) | ((upper == 0) & (sign == 1) & is_extended)
    return values.astype(np.int32) if 0 < above.mean() <= MOST_ABOVE else None
