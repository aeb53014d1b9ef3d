"""Vectors of length one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def scale_to_one(vector: npt.ArrayLike) -> np.ndarray:
    """Scale a vector to length one.

    Args:
        vector: (n,), not zero.

    Example:
        >>> scale_to_one([0.0, 3.0, 4.0])
        array([0. , 0.6, 0.8])
    """
    vector = np.asarray(vector, float)
    return vector / np.linalg.norm(vector)
