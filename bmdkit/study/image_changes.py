"""Radiographs compressed, and spoilt so that their prediction has to be wrong."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

QUALITIES = (100, 75, 50, 25, 10)
"""Qualities of JPEG: 100, 50 and 10 are those that the text of the paper names, 75 and 25 lie between."""

BITS = (8, 6, 5, 4, 3)
"""Fewer bits a pixel: those of a usual picture, and fewer until it shows."""

Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray, float]]
"""Makes of an image, its mask and a generator another image, its mask, and the size of its file in kB, or NaN."""


def as_jpeg(quality: int) -> Change:
    """A change to eight bits, compressed and read again; with the size of the file, kB."""

    def change(xray: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        buffer = io.BytesIO()
        Image.fromarray(np.rint(255 * xray).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer), np.float32) / 255, mask, len(buffer.getvalue()) / 1000

    return change


def as_bits(bits: int) -> Change:
    """A change to so many bits a pixel; with the size of a PNG of them, kB, which loses nothing else."""

    def change(xray: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        levels = 2**bits - 1
        stored = np.rint(levels * xray).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(stored).save(buffer, "PNG")
        return stored.astype(np.float32) / levels, mask, len(buffer.getvalue()) / 1000

    return change


def _make_change(how: Callable[[np.ndarray, np.random.Generator], np.ndarray], *, mask_too: bool) -> Change:
    def change(xray: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        seen = how(mask, rng) > 0.5 if mask_too else mask
        return np.clip(how(xray, rng), 0, 1).astype(np.float32), seen, math.nan

    return change


_spoil = functools.partial(_make_change, mask_too=True)  # what moves the image moves its mask
_change_tones = functools.partial(_make_change, mask_too=False)


def _move(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = image.shape
    return ndimage.shift(image, (rows / 4, columns / 5), order=1, cval=0)


def _enlarge(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    middle = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, [1 / 1.5] * 2, middle - middle / 1.5, order=1)


SPOILT: dict[str, Change] = {
    "upside down": _spoil(lambda image, rng: image[::-1]),
    "the other hip": _spoil(lambda image, rng: image[:, ::-1]),
    "a quarter lower": _spoil(_move),
    "half as large again": _spoil(_enlarge),
    "turned by 30 degrees": _spoil(lambda image, rng: ndimage.rotate(image, 30, reshape=False, order=1)),
    "inverted": _change_tones(lambda image, rng: 1 - image),
    "half the exposure": _change_tones(lambda image, rng: 0.5 * image),
    "noise": _change_tones(lambda image, rng: image + rng.normal(0, 0.2, image.shape)),
    "blank": _change_tones(lambda image, rng: np.full_like(image, image.mean())),
}
"""Radiographs that should not have come: what a reader or a user gets wrong."""
