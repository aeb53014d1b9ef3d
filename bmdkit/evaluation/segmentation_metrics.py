"""How well a label map fits another, and how well uncertainty tells where it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

from bmdkit.core.volume import bounding_box


@dataclass(frozen=True)
class SurfaceDistance:
    """Between two surfaces, both ways, mm.

    Attributes:
        mean_mm: Average symmetric surface distance.
        p95_mm: 95th percentile (of all distances together).
    """

    mean_mm: float
    p95_mm: float


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two masks; NaN where both are empty."""
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else float("nan")


def surface_distance(one: np.ndarray, other: np.ndarray, spacing_mm: np.ndarray) -> SurfaceDistance:
    """Distances between the surface voxels of two masks; NaN where either is empty.

    Args:
        one: Mask, bool, [slice, row, column].
        other: Mask of the same shape.
        spacing_mm: (3,), along columns, rows, slices as in a Grid.
    """
    if not (one.any() and other.any()):
        return SurfaceDistance(float("nan"), float("nan"))
    box = bounding_box(one | other, 1)
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box], border_value=1) for mask in (one, other)]
    surfaces = [surface if surface.any() else mask[box] for surface, mask in zip(surfaces, (one, other), strict=True)]
    sampling = np.asarray(spacing_mm, float)[::-1]
    to = [ndimage.distance_transform_edt(~surface, sampling=sampling) for surface in surfaces]
    distances = np.concatenate([to[1][surfaces[0]], to[0][surfaces[1]]])
    return SurfaceDistance(float(distances.mean()), float(np.percentile(distances, 95)))


def auroc(score: np.ndarray, failed: np.ndarray) -> float:
    """Chance that a failure has a larger score than a success, ties counting half; NaN with one kind alone."""
    score, failed = np.asarray(score, float), np.asarray(failed, bool)
    positives, negatives = int(failed.sum()), int((~failed).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = stats.rankdata(score)
    return float((ranks[failed].sum() - positives * (positives + 1) / 2) / (positives * negatives))
