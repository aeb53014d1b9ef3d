"""How far intervals of a line overlap: what a resampling by areas, or by thick slices, is made of."""

from __future__ import annotations

import numpy as np


def measure_overlaps(low: np.ndarray, high: np.ndarray, other_low: np.ndarray, other_high: np.ndarray) -> np.ndarray:
    """Find how much of each interval lies in each of some others.

    Args:
        low: (m,), lower ends of the intervals.
        high: (m,), upper ends of the intervals.
        other_low: (n,), lower ends of the others.
        other_high: (n,), upper ends of the others.

    Returns:
        (m, n), lengths; 0 where two do not overlap.

    Example:
        >>> measure_overlaps(np.array([0.0]), np.array([2.0]), np.array([-1.0, 1.5]), np.array([0.5, 9.0]))
        array([[0.5, 0.5]])
    """
    left = np.maximum(low[:, None], other_low)
    right = np.minimum(high[:, None], other_high)
    lengths: np.ndarray = np.clip(right - left, 0, None)
    return lengths
