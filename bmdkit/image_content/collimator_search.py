"""The clearest straight or round edge of a collimator in a small image.

An edge collects the steps along it, as a Hough transform collects votes: Duda and Hart 1972,
doi 10.1145/361237.361242. What tells a blade from anatomy is that its edge is straight or round, that all along it
the outer side is denser, and that the rise is narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.image_content.collimator_edges import RoundEdge, StraightEdge

ANGLE_STEP_DEG = 3.0
WIDTH, GAP = 3, 1
"""Pixels averaged on each side of an edge, and left out between; of the search."""
LEAST_STEP = 0.04
"""The least step that counts as one, as a part of the range."""
LARGEST_STEP = 0.3
"""Steps count no more than this: a few strong ones are no edge."""
SATURATED = 0.97
"""Where the inner side is denser than this, there is no room for a step; such places do not count."""
LEAST_CONTRAST = 0.08
"""The least mean step along an edge, above what the lines beside it have."""
LEAST_SHARE = 0.35
"""The least part of an edge that has a step; the edge of an octagon fills 0.41 of the square about it."""
LEAST_SHARE_OF_ALL = 0.25
"""The same, of all places along it, also where the inner side leaves no room for a step."""
BESIDE = 7
"""Lines this far away have to have less contrast, pixels of the search: anatomy fades out, a penumbra is narrow."""
LEAST_SHARE_IN_ROUND = 0.7
"""The same within a round opening, whose own edge is straight over short parts."""
LEAST_ROUND_SHARE = 0.9
MOST_AGAINST = 0.1
"""The largest part of an edge at which the outer side is less dense: that is seen in anatomy, and never at a blade."""
LEAST_LENGTH = 0.12
"""The least length of the steps of an edge, as a part of the search image's longer side."""
NEAREST = 0.2
"""The least distance of an edge from the middle of the image, as a part of its half extent."""


@dataclass(frozen=True, eq=False)
class Direction:
    """Steps across all lines of one direction: the first axis counts lines, the second places along each.

    Attributes:
        normal: (row, column), pointing outward.
        distance: (lines,), from the middle of the image, pixels.
        step: (lines, places), outer level minus inner level.
        dense: (lines, places), bool, where the inner side leaves no room for a step.
        places: Turns the whole image into the axes of the direction: matrix and offset.
    """

    normal: np.ndarray
    distance: np.ndarray
    step: np.ndarray
    dense: np.ndarray
    places: tuple[np.ndarray, np.ndarray]


def scan_directions(image: np.ndarray) -> list[tuple[Direction, Direction]]:
    """Steps in every direction, and in the opposite one."""
    centre = (np.array(image.shape) - 1) / 2
    reach = int(np.ceil(np.hypot(*centre))) + 1
    size = 2 * reach + 1
    at = np.arange(WIDTH + GAP, size - WIDTH - GAP)
    found = []
    for angle in np.radians(np.arange(0.0, 180.0, ANGLE_STEP_DEG)):
        normal = np.array([np.sin(angle), np.cos(angle)])
        axes = np.stack([normal, (normal[1], -normal[0])], axis=1)
        places = axes, centre - axes @ (reach, reach)
        turned = _turn(image, places, size)
        sums = np.vstack([np.zeros((1, size), np.float32), np.cumsum(turned, axis=0)])
        above = (sums[at + GAP + WIDTH] - sums[at + GAP]) / WIDTH
        below = (sums[at - GAP + 1] - sums[at - GAP + 1 - WIDTH]) / WIDTH
        step = above - below
        found.append(
            (
                Direction(normal, at - reach, step, (below > SATURATED) & (step > -LEAST_STEP), places),
                Direction(-normal, reach - at, -step, (above > SATURATED) & (step < LEAST_STEP), places),
            )
        )
    return found


def _turn(image: np.ndarray, places: tuple[np.ndarray, np.ndarray], size: int) -> np.ndarray:
    turned = ndimage.affine_transform(image, places[0], offset=places[1], output_shape=(size, size), order=1, cval=0.0)
    return np.asarray(turned)


def find_line(
    shape: tuple[int, int], field: np.ndarray, pairs: list[tuple[Direction, Direction]], least_share: float
) -> StraightEdge | None:
    """The straight edge of the highest contrast, or None."""
    centre = (np.array(shape) - 1) / 2
    weight = field.astype(np.float32)
    best, result = 0.0, None
    for pair in pairs:
        known = _whole_windows(_turn(weight, pair[0].places, pair[0].step.shape[1]) > 0.99)
        for way in pair:
            use = known & ~way.dense
            counted = np.maximum(use.sum(1), 1)
            hit = (use & (way.step > LEAST_STEP)).sum(1)
            contrast = np.where(use, np.clip(way.step, -LARGEST_STEP, LARGEST_STEP), 0).sum(1) / counted
            extent = float(np.abs(way.normal) @ centre)
            fits = (way.distance >= NEAREST * extent) & (hit >= LEAST_LENGTH * max(shape))
            fits &= (hit >= least_share * counted) & (hit >= LEAST_SHARE_OF_ALL * known.sum(1))
            fits &= contrast - _mean_of_neighbours(contrast) >= LEAST_CONTRAST
            fits &= (use & (way.step < -LEAST_STEP)).sum(1) <= MOST_AGAINST * counted
            score = np.where(fits, contrast * np.sqrt(hit), 0.0)
            at = int(np.argmax(score))
            if score[at] > best:
                best = float(score[at])
                offset = float(way.distance[at] + way.normal @ centre)
                result = StraightEdge((float(way.normal[0]), float(way.normal[1])), offset, float(contrast[at]))
    return result


def _mean_of_neighbours(contrast: np.ndarray) -> np.ndarray:
    """(lines,), mean contrast of the lines at `BESIDE` on both sides."""
    padded = np.pad(np.maximum(contrast, 0), BESIDE)
    return np.asarray((padded[: -2 * BESIDE] + padded[2 * BESIDE :]) / 2)


def _whole_windows(inside: np.ndarray) -> np.ndarray:
    """(lines, places), bool, where all pixels on both sides of a line are known."""
    counts = np.vstack([np.zeros((1, inside.shape[1]), int), np.cumsum(inside, axis=0)])
    at = np.arange(WIDTH + GAP, len(inside) - WIDTH - GAP)
    return np.asarray(counts[at + GAP + WIDTH] - counts[at - GAP + 1 - WIDTH] >= 2 * (WIDTH + GAP) - 1)


def find_circle(image: np.ndarray, field: np.ndarray) -> RoundEdge | None:
    """The round edge of the highest contrast, or None."""
    rows, columns = image.shape
    angles = np.radians(np.arange(0.0, 360.0, 4.0))
    ways = np.stack([np.sin(angles), np.cos(angles)])
    radii = np.arange(0.25 * min(rows, columns), 0.6 * np.hypot(rows, columns))
    best, result = 0.0, None
    for down in np.linspace(-0.15, 0.15, 7):
        for across in np.linspace(-0.15, 0.15, 7):
            centre = np.array([(0.5 + down) * rows - 0.5, (0.5 + across) * columns - 0.5])
            found = _best_radius(image, field, centre, ways, radii)
            if found is not None and found[1] > best:
                best = found[1]
                result = RoundEdge((float(centre[0]), float(centre[1])), found[0], found[1])
    return result


def _best_radius(
    image: np.ndarray, field: np.ndarray, centre: np.ndarray, ways: np.ndarray, radii: np.ndarray
) -> tuple[float, float] | None:
    """Radius and contrast of the clearest circle about one centre, or None."""
    places = centre[:, None, None] + radii[None, :, None] * ways[:, None, :]
    polar = ndimage.map_coordinates(image, places, order=1, mode="nearest")
    inside = ndimage.map_coordinates(field.astype(np.float32), places, order=0, mode="constant", cval=0.0) > 0
    sums = np.vstack([np.zeros((1, polar.shape[1])), np.cumsum(polar, axis=0)])
    counts = np.vstack([np.zeros((1, polar.shape[1])), np.cumsum(inside, axis=0)])
    width = WIDTH + 1  # the centres lie on a grid
    at = np.arange(width + GAP, len(radii) - width - GAP)
    outer = (sums[at + GAP + width] - sums[at + GAP]) / width
    inner = (sums[at - GAP + 1] - sums[at - GAP + 1 - width]) / width
    known = counts[at + GAP + width] - counts[at - GAP + 1 - width] >= 2 * (width + GAP) - 1
    step = outer - inner
    use = known & ~((inner > SATURATED) & (step > -LEAST_STEP))
    counted = use.sum(1)
    hit = (use & (step > LEAST_STEP)).sum(1)
    contrast = np.where(use, np.clip(step, -LARGEST_STEP, LARGEST_STEP), 0).sum(1) / np.maximum(counted, 1)
    fits = (hit >= LEAST_ROUND_SHARE * counted) & (counted >= 0.3 * ways.shape[1]) & (contrast >= LEAST_CONTRAST)
    score = np.where(fits, contrast * hit / ways.shape[1], 0.0)
    best = int(np.argmax(score))
    return (float(radii[at[best]]), float(contrast[best])) if score[best] > 0 else None
