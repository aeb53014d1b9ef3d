"""Rows of evenly spaced discs on one slab: what a phantom looks like before its rods are told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.calibration.discs import Disc
from bmdkit.calibration.phantom_models import INVISIBLE_MG_CM3, PhantomModel
from bmdkit.core.grid import frozen

_SPACING_SPREAD = 0.16  # between neighbouring distances, as a share of either
_TURN_RAD = np.deg2rad(22)  # from one link of a row to the next: the slab may be curved
_RADIUS_SPREAD = 0.3  # between neighbouring rods, as a share of either
_LEAST_VOTES = 0.5
_BETWEEN = (0.34, 0.66)  # of the way from one disc's centre to the next: clear of both
_SLAB_SPREAD_HU = 22.0  # within the slab between two rods
_SLAB_STEP_HU = 25.0  # of the slab from one gap to the next
_SAMPLES = 12


@dataclass(frozen=True, eq=False)
class Links:
    """Which discs may be neighbours: the same material lies all the way between them, and they are alike.

    Attributes:
        distance, angle: (n, n), pixels and radians, from one disc to the other.
        slab_hu: (n, n), of what lies between; NaN where they are no neighbours.
    """

    distance: np.ndarray
    angle: np.ndarray
    slab_hu: np.ndarray

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for name in ("distance", "angle", "slab_hu"):
            object.__setattr__(self, name, frozen(getattr(self, name)))


def link_discs(image: np.ndarray, discs: Sequence[Disc], longest: float) -> Links:
    """Judge every pair of discs that are no farther apart than `longest` pixels."""
    places = np.array([(disc.row, disc.column) for disc in discs]).reshape(-1, 2)
    radii = np.array([disc.radius for disc in discs])
    votes = np.array([disc.votes for disc in discs])
    step = places[None, :, :] - places[:, None, :]
    distance = np.hypot(step[..., 0], step[..., 1])
    possible = (distance <= longest) & (distance > radii[:, None] + radii[None, :])
    possible &= np.abs(radii[:, None] - radii[None, :]) <= _RADIUS_SPREAD * np.maximum(radii[:, None], radii[None, :])
    possible &= (votes[:, None] >= _LEAST_VOTES) & (votes[None, :] >= _LEAST_VOTES)
    slab_hu = np.full(distance.shape, np.nan)
    first, second = np.nonzero(np.triu(possible))
    if len(first):
        smooth = ndimage.uniform_filter(image.astype(np.float32, copy=False), 3)
        points = places[first][:, None, :] + np.linspace(*_BETWEEN, _SAMPLES)[:, None] * step[first, second][:, None, :]
        values = ndimage.map_coordinates(smooth, np.moveaxis(points, -1, 0), order=1, mode="nearest")
        uniform = values.std(axis=1) <= _SLAB_SPREAD_HU
        slab_hu[first[uniform], second[uniform]] = np.median(values[uniform], axis=1)
        slab_hu[second[uniform], first[uniform]] = slab_hu[first[uniform], second[uniform]]
    return Links(distance, np.arctan2(step[..., 0], step[..., 1]), slab_hu)


def find_rows(
    discs: Sequence[Disc], links: Links, model: PhantomModel, pixel_mm: float
) -> Iterator[list[tuple[int, int]]]:
    """Rows of (disc, position), evenly spaced and nearly straight; a position may be skipped where no rod was seen."""
    count = len(model.densities_mg_cm3)
    unseen = sum(abs(density) <= INVISIBLE_MG_CM3 for density in model.densities_mg_cm3)
    least = max(3, count - unseen - 1)
    low, high = (limit / pixel_mm for limit in model.spacing_mm)
    small, large = (limit / 2 / pixel_mm for limit in model.diameter_mm)
    fitting = np.array([small - 1.5 <= disc.radius <= large + 1.5 for disc in discs], bool)
    joined = np.isfinite(links.slab_hu) & fitting[:, None] & fitting[None, :]

    def grow(row: list[tuple[int, int]], skipped: int) -> Iterator[list[tuple[int, int]]]:
        if len(row) >= least and row[0][0] < row[-1][0]:  # each row once, from one of its ends
            yield row
        position = row[-1][1]
        for gap in range(1, unseen - skipped + 2):
            if position + gap < count:
                for other in following(row, gap):
                    yield from grow([*row, (other, position + gap)], skipped + gap - 1)

    def following(row: list[tuple[int, int]], gap: int) -> list[int]:
        last = row[-1][0]
        spacing = links.distance[last] / gap
        fits = joined[last] & (spacing >= low) & (spacing <= high)
        if len(row) > 1:
            before = row[-2][0]
            usual = links.distance[before, last] / (row[-1][1] - row[-2][1])
            fits &= np.abs(spacing - usual) <= _SPACING_SPREAD * np.maximum(spacing, usual)
            turn = links.angle[last] - links.angle[before, last]
            fits &= np.abs((turn + np.pi) % (2 * np.pi) - np.pi) <= _TURN_RAD
            fits &= np.abs(links.slab_hu[last] - links.slab_hu[before, last]) <= _SLAB_STEP_HU
        fits[[disc for disc, _ in row]] = False
        return np.flatnonzero(fits).tolist()

    for start in np.flatnonzero(joined.any(axis=1)).tolist():
        yield from grow([(start, 0)], 0)
