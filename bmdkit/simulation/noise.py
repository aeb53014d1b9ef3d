"""Smooth random fields, of which texture, drift and deformations are made."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def draw_smooth_noise(
    shape: tuple[int, ...], length: float | tuple[float, ...], rng: np.random.Generator
) -> np.ndarray:
    """A smooth random field of unit variance, float32; its features are about `length` voxels wide along each axis."""
    factor = np.maximum(np.broadcast_to(length, 3) / 1.5, 1.0)
    coarse = rng.standard_normal([int(n / f) + 4 for n, f in zip(shape, factor, strict=True)], dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, 1.0)
    coarse /= coarse.std()
    for axis, (size, f) in enumerate(zip(shape, factor, strict=True)):  # linear interpolation, one axis after the other
        at = 1.0 + np.arange(size) / f
        low = at.astype(int)
        part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        coarse = np.take(coarse, low, axis) * (1 - part) + np.take(coarse, low + 1, axis) * part
    return coarse
