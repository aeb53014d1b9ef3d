"""Which discs of one image are the rods of a phantom, and which rod is which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bmdkit.calibration.discs import Disc, make_disc_points
from bmdkit.calibration.line import fit_line
from bmdkit.calibration.phantom_models import INVISIBLE_MG_CM3, PhantomModel
from bmdkit.calibration.rows import Links, find_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_FIT_SPREAD_MM = 2.5  # of the centres about a gentle curve
_WORST_RESIDUAL = 0.045  # of the span of the densities
_WORST_R = 0.985
_LEAST_RODS = 4  # where some are out of view: fewer fit by chance
_CORE = 0.6  # of the radius
_SLAB_SPREAD = 0.11  # by which the slab may differ from its known density, as a share of the span
_MOST_SPREAD_HU = 45.0


@dataclass(frozen=True, eq=False)
class Pattern:
    """A phantom in one image.

    Attributes:
        model: Phantom whose rods these are.
        rods: Index into the model's densities, for each rod that is in view.
        centres: (n, 2), rows and columns, pixels.
        hu: (n,), means of the cores.
        radius: Pixels.
        residual: Root mean square distance from the line, as a share of the span of all densities.
        score: Higher is better; comparable between models.
    """

    model: PhantomModel
    rods: tuple[int, ...]
    centres: np.ndarray
    hu: np.ndarray
    radius: float
    residual: float
    score: float


def match_pattern(
    image: np.ndarray, discs: Sequence[Disc], links: Links, model: PhantomModel, pixel_mm: float
) -> Pattern | None:
    """Find the row of discs that a phantom explains best.

    The row is straight or gently curved, its discs evenly spaced; rods of the slab's own material may be unseen, and
    the row may leave the image. All rods in view: any order whose HU fit the densities. Some out of view: only the
    orders that the model knows.

    Args:
        image: (rows, columns), HU, square pixels.
        discs: Candidates in it.
        links: Pairs of them that may be neighbours.
        model: The phantom.
        pixel_mm: Edge of a pixel.
    """
    best = None
    for row in find_rows(discs, links, model, pixel_mm):
        for pattern in _explanations(image, discs, row, model, pixel_mm):
            if best is None or pattern.score > best.score:
                best = pattern
    return best


def identify(hu: ArrayLike, rods: tuple[int, ...], model: PhantomModel) -> tuple[float, float, float, float]:
    """HU per mg/cm3, HU at zero, root mean square residual in mg/cm3 and r of rods under a model."""
    excess = np.asarray(hu, float) - np.array(model.water_hu)[list(rods)]
    density = np.array(model.densities_mg_cm3)[list(rods)]
    if np.ptp(excess) == 0:
        return 0.0, float(excess[0]), np.inf, 0.0
    slope, zero, residual_hu, r = fit_line(density, excess)
    return slope, zero, residual_hu / abs(slope) if slope else np.inf, r


def _explanations(
    image: np.ndarray, discs: Sequence[Disc], row: list[tuple[int, int]], model: PhantomModel, pixel_mm: float
) -> Iterator[Pattern]:
    """Every assignment of the model's rods to one row of discs that gives a sensible line."""
    count = len(model.densities_mg_cm3)
    seen = np.array([position for _, position in row])
    centres = np.array([(discs[n].row, discs[n].column) for n, _ in row])
    degree = 2 if len(row) > 3 else 1
    curve = np.polynomial.polynomial.polyfit(seen, centres, degree)
    error = np.polynomial.polynomial.polyval(seen, curve).T - centres
    if np.sqrt((error**2).sum(axis=1).mean()) * pixel_mm > _FIT_SPREAD_MM:
        return
    radius = float(np.median([discs[n].radius for n, _ in row]))
    votes = float(np.mean([min(discs[n].votes, 1.0) for n, _ in row]))
    length = int(seen[-1]) + 1
    for before in range(count - length + 1):
        positions = np.arange(-before, count - before)
        places = np.polynomial.polynomial.polyval(positions, curve).T
        places[seen + before] = centres
        hu, spread = core_values(image, places, _CORE * radius)
        readable = spread <= _MOST_SPREAD_HU
        slab_hu = _between(image, places)
        is_seen = np.isin(positions, seen)
        for rods in _assignments(hu, is_seen, readable, model):
            chosen = np.flatnonzero(rods >= 0)
            index = tuple(int(rods[n]) for n in chosen)
            slope, zero, residual, r = identify(hu[chosen], index, model)
            share = residual / model.span_mg_cm3
            if r < _WORST_R or share > _WORST_RESIDUAL or not model.slope_hu[0] <= slope <= model.slope_hu[1]:
                continue
            if not model.zero_hu[0] <= zero <= model.zero_hu[1]:
                continue
            off = 0.0
            if model.slab_mg_cm3 is not None:
                off = abs((slab_hu - zero) / slope - model.slab_mg_cm3) / model.span_mg_cm3 / _SLAB_SPREAD
                if off > 1:
                    continue
            score = len(chosen) * (1 + 1 / count) + votes - share / _WORST_RESIDUAL - off
            yield Pattern(model, index, places[chosen], hu[chosen], radius, share, score)


def _assignments(
    hu: np.ndarray, is_seen: np.ndarray, readable: np.ndarray, model: PhantomModel
) -> Iterator[np.ndarray]:
    """Rod index at each position, -1 where none is in view; an unseen one can only be of the slab's material."""
    densities = np.array(model.densities_mg_cm3)
    unseen_rods = np.abs(densities) <= INVISIBLE_MG_CM3
    water = np.array(model.water_hu)
    if (is_seen | readable).all() and (~is_seen).sum() <= unseen_rods.sum():
        for slope in (1.0, 1.6) if water.any() else (1.0,):  # where matrices differ, the order of HU may vary
            rods = np.empty(len(hu), int)
            rods[np.argsort(hu, kind="stable")] = np.argsort(densities * slope + water, kind="stable")
            if unseen_rods[rods[~is_seen]].all():
                yield rods
    for order in model.orders_mg_cm3:
        for one in (order, order[::-1]):
            rods = np.array([int(np.argmin(np.abs(densities - density))) for density in one])
            hidden_here = ~is_seen & unseen_rods[rods] & readable
            rods = np.where(is_seen | hidden_here, rods, -1)
            if (rods >= 0).sum() >= min(_LEAST_RODS, len(rods)):
                yield rods


def _between(image: np.ndarray, places: np.ndarray) -> float:
    """HU of the slab, halfway between neighbouring rods; infinity if none of those points is in the image."""
    index = np.rint((places[1:] + places[:-1])[:, None, :] / 2 + make_disc_points(1.5)).astype(int).reshape(-1, 2)
    index = index[((index >= 0) & (index < image.shape)).all(axis=1)]
    return float(np.median(image[tuple(index.T)])) if len(index) else np.inf


def core_values(image: np.ndarray, centres: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation within discs; NaN and infinity where one leaves the image.

    Args:
        image: (rows, columns).
        centres: (n, 2), rows and columns.
        radius: Pixels.
    """
    index = np.rint(centres[:, None, :] + make_disc_points(radius)).astype(int)
    inside = ((index >= 0) & (index < image.shape)).all(axis=(1, 2))
    values = image[tuple(np.moveaxis(np.clip(index, 0, np.array(image.shape) - 1), -1, 0))]
    mean, spread = values.mean(axis=1), values.std(axis=1)
    return np.where(inside, mean, np.nan), np.where(inside, spread, np.inf)
