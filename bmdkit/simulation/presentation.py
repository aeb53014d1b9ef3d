"""The image that a vendor's processing makes of a detector's signal: logarithm, window, tone curve, marker, borders."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

_COMPRESSION_MM = 45.0
_SHARPENING_MM = 1.5
_LETTER_R = ("11110", "10001", "10001", "11110", "10100", "10010", "10001")


@dataclass(frozen=True)
class Processing:
    """How a vendor shows what the detector has seen.

    Attributes:
        compression: Share of what is wide (45 mm) that is taken away: compression of the dynamic range.
        gamma: Exponent of the tone curve.
        toe: Weight of an S-shaped curve, flat in the darkest and brightest tones, beside a straight one, 0 to 1.
        sharpening: Weight of what is fine (1.5 mm), added once more.
        low_percentile, high_percentile: Window of the tones.
        behind_blades: How far the window reaches from the open field's tones to those behind a collimator's blades.
    """

    compression: float = 0.35
    gamma: float = 1.15
    toe: float = 0.0
    sharpening: float = 0.0
    low_percentile: float = 1.0
    high_percentile: float = 99.8
    behind_blades: float = 0.4

    def vary(self, rng: np.random.Generator) -> Processing:
        """The same processing as it turns out in one image: it adapts a little to what it sees."""
        return replace(
            self,
            compression=float(np.clip(self.compression + rng.normal(0, 0.01), 0, 1)),
            gamma=float(self.gamma * np.exp(rng.normal(0, 0.02))),
            toe=float(np.clip(self.toe + rng.normal(0, 0.01), 0, 1)),
        )


def draw_processing(rng: np.random.Generator, *, collimated: bool = False) -> Processing:
    """Draw a processing of any vendor, without S-curve or sharpening."""
    compression = rng.uniform(0.2, 0.5)
    behind = rng.uniform(0.05, 0.8) if collimated else 0.0
    return Processing(compression=compression, gamma=rng.uniform(0.9, 1.4), behind_blades=behind)


def present(
    signal: np.ndarray,
    pixel_mm: float,
    rng: np.random.Generator,
    *,
    marker: bool = False,
    collimation: bool = False,
    field: np.ndarray | None = None,
    processing: Processing | None = None,
) -> np.ndarray:
    """The image as a vendor's processing leaves it: (rows, columns), uint16, 12 bit, brighter = denser.

    Args:
        signal: Dose at the detector, (rows, columns).
        pixel_mm: Pixel size at the detector.
        rng: Random generator of the processing.
        marker: Whether there is a lead letter R.
        collimation: Whether the borders are black.
        field: What a collimator leaves open, (rows, columns), bool; the window is read there, and some vendors let what
            lies behind the blades keep its shades.
        processing: Processing of a site, as `Processing.vary` leaves it; drawn if not given.
    """
    how = draw_processing(rng, collimated=field is not None) if processing is None else processing
    image = -np.log(np.clip(signal, 1e-6, None))
    wide = ndimage.gaussian_filter(image[::8, ::8], _COMPRESSION_MM / (8 * pixel_mm), mode="nearest")
    scale = np.array(wide.shape) / image.shape
    wide = ndimage.affine_transform(wide, scale, output_shape=image.shape, order=1, mode="nearest")
    image = image - how.compression * np.maximum(wide, np.median(wide))
    if how.sharpening:
        image = image + how.sharpening * (image - ndimage.gaussian_filter(image, _SHARPENING_MM / pixel_mm))
    seen = image[::4, ::4] if field is None else image[field]
    low, high = np.percentile(seen, (how.low_percentile, how.high_percentile))
    if field is not None:
        high += how.behind_blades * max(float(np.percentile(image[::4, ::4], 99.9)) - high, 0.0)
    image = np.clip((image - low) / (high - low), 0, 1)
    if how.toe:
        image = (1 - how.toe) * image + how.toe * image * image * (3 - 2 * image)
    image = image**how.gamma
    if marker:
        _put_marker(image, pixel_mm)
    if collimation:
        rows, columns = image.shape
        edge_rows, edge_columns = int(rng.uniform(0.04, 0.09) * rows), int(rng.uniform(0.04, 0.09) * columns)
        image[:edge_rows] = image[-edge_rows // 2 :] = 0.0
        image[:, :edge_columns] = image[:, -edge_columns:] = 0.0
    return np.rint(image * 4095).astype(np.uint16)


def _put_marker(image: np.ndarray, pixel_mm: float) -> None:
    """Put a lead letter on the patient's right, in place."""
    rows, columns = image.shape
    size = max(round(2.5 / pixel_mm), 1)
    letter = np.kron(np.array([[int(c) for c in row] for row in _LETTER_R], bool), np.ones((size, size), bool))
    top, left = int(0.12 * rows), int(0.08 * columns)
    image[top : top + letter.shape[0], left : left + letter.shape[1]][letter] = 1.0
