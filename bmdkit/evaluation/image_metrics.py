"""How alike two images are: peak signal-to-noise ratio and multi-threshold Dice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DICE_THRESHOLDS = (0.10, 0.11, 0.12, 0.13, 0.14, 0.15)
"""Fractions of the maximum at which silhouettes are compared."""


def _images(predicted: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, t = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if p.shape != t.shape:
        raise ValueError(f"predicted, target: expected equal shapes, got {p.shape}, {t.shape}")
    if not (np.isfinite(p).all() and np.isfinite(t).all()):
        raise ValueError("predicted, target: expected finite values")
    return p, t


def psnr_db(predicted: np.ndarray, target: np.ndarray, *, peak: float) -> float:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / MSE), dB; infinite for equal images.

    Args:
        predicted: Image.
        target: Image of the same shape and unit.
        peak: The largest value an image can take, such as the maximum of the training set.
    """
    p, t = _images(predicted, target)
    if not peak > 0:
        raise ValueError(f"peak: expected a positive number, got {peak!r}")
    if np.array_equal(p, t):
        return float("inf")
    from skimage.metrics import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(t, p, data_range=peak))


def dice(predicted: np.ndarray, target: np.ndarray) -> float:
    """Dice coefficient of two masks; 1 if both are empty."""
    p, t = np.asarray(predicted, bool), np.asarray(target, bool)
    total = p.sum() + t.sum()
    return float(2 * (p & t).sum() / total) if total else 1.0


def multi_threshold_dice(
    predicted: np.ndarray, target: np.ndarray, *, maximum: float, fractions: Sequence[float] = DICE_THRESHOLDS
) -> float:
    """Mean Dice of the silhouettes at several fractions of `maximum`.

    Args:
        predicted: Image.
        target: Image of the same shape and unit.
        maximum: Value that the fractions are of: the maximum of the training set.
        fractions: The thresholds.
    """
    p, t = _images(predicted, target)
    return float(np.mean([dice(p >= f * maximum, t >= f * maximum) for f in fractions]))


def mean_above(image: np.ndarray, threshold: float) -> float:
    """Mean of the pixels at or above `threshold`, in the image's unit; 0 if there is none."""
    values = np.asarray(image, np.float64)
    values = values[values >= threshold]
    return float(values.mean()) if values.size else 0.0
