"""The field that a collimator leaves open: straight blades of any number and angle, and round openings.

Behind a blade nothing is constant: scatter fades with the distance, and some millimetres of penumbra lie before it.
What tells a blade from anatomy is that its edge is straight (or round), runs through the whole field, and that all
along it the outer side is denser. Source of the idea of a line that collects votes: Duda and Hart 1972,
doi 10.1145/361237.361242.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SEARCH_SIDE = 180
"""Longer side of the image in which edges are searched, pixels."""
FINE_SIDE = 860
"""Longer side of the image in which they are placed."""
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
LEAST_FITTED = 0.7
"""The least part of a round edge that lies on one circle; a polygon's does not."""
MOST_AGAINST = 0.1
"""The largest part of an edge at which the outer side is less dense: that is seen in anatomy, and never at a blade."""
LEAST_LENGTH = 0.12
"""The least length of the steps of an edge, as a part of the search image's longer side."""
NEAREST = 0.2
"""The least distance of an edge from the middle of the image, as a part of its half extent."""
MOST_EDGES = 12
PENUMBRA = 2.5
"""How far from an edge that was found others are not looked for, pixels of the search."""
EDGE_LEVEL = 0.25
"""Where the edge is taken to lie between its inner and outer level: half of the beam is a quarter of the logarithm."""


@dataclass(frozen=True)
class StraightEdge:
    """A line; the field lies where `row * normal[0] + column * normal[1] <= offset`, pixels of the whole image.

    Attributes:
        normal: (row, column), of length one, pointing away from the field.
        offset: Distance of the line from the centre of the first pixel.
        contrast: Mean step along it, as a part of the image's range.
    """

    normal: tuple[float, float]
    offset: float
    contrast: float

    def moved(self, outward: float) -> StraightEdge:
        """The edge, farther out by some pixels."""
        return StraightEdge(self.normal, self.offset + outward, self.contrast)

    def opening(self, shape: tuple[int, int]) -> np.ndarray:
        """[row, column], bool, True on the field's side."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return rows * self.normal[0] + columns * self.normal[1] <= self.offset


@dataclass(frozen=True)
class RoundEdge:
    """A circle about the field, pixels of the whole image.

    Attributes:
        centre: (row, column).
        radius: Of the circle.
        contrast: Mean step along it, as a part of the image's range.
    """

    centre: tuple[float, float]
    radius: float
    contrast: float

    def moved(self, outward: float) -> RoundEdge:
        """The edge, farther out by some pixels."""
        return RoundEdge(self.centre, self.radius + outward, self.contrast)

    def opening(self, shape: tuple[int, int]) -> np.ndarray:
        """[row, column], bool, True within."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return (rows - self.centre[0]) ** 2 + (columns - self.centre[1]) ** 2 <= self.radius**2


Edge = StraightEdge | RoundEdge


def find_edges(values: np.ndarray, seen: np.ndarray) -> tuple[Edge, ...]:
    """Find the edges of the field that a collimator left open, the clearest first.

    Args:
        values: [row, column], brighter = denser, any scale.
        seen: [row, column], bool; pixels that are known to be no image are False.

    Returns:
        Straight and round edges; none where the whole image is field.
    """
    coarse = _Reduced.of(values, seen, SEARCH_SIDE)
    fine = _Reduced.of(values, seen, FINE_SIDE)
    if coarse is None or fine is None:
        return ()
    found: list[Edge] = []
    directions = _scan_directions(coarse.image)
    field, is_round = coarse.seen, False
    while len(found) < MOST_EDGES:
        edge = None if found else _find_round_edge(coarse, fine, field)
        if edge is None:
            least = LEAST_SHARE_IN_ROUND if is_round else LEAST_SHARE
            line = _find_line(field.shape, field, directions, least)
            edge = None if line is None else _place(fine, coarse.whole(line), found)
        if edge is None:
            break
        is_round = is_round or isinstance(edge, RoundEdge)
        field = field & coarse.reduced(edge).moved(-PENUMBRA).opening(field.shape)
        found.append(edge)
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Reduced:
    """An image of fewer pixels, its robust range brought to [0, 1].

    Attributes:
        image: [row, column], float32.
        seen: [row, column], bool.
        factor: Pixels of the whole image per pixel.
    """

    image: np.ndarray
    seen: np.ndarray
    factor: int

    @classmethod
    def of(cls, values: np.ndarray, seen: np.ndarray, side: int) -> _Reduced | None:
        """Means over blocks of pixels that are seen; None where too little is."""
        factor = max(-(-max(values.shape) // side), 1)
        rows, columns = (size // factor for size in values.shape)
        blocks = np.s_[: rows * factor, : columns * factor]
        tiled = (rows, factor, columns, factor)
        count = seen[blocks].reshape(tiled).sum((1, 3))
        total = np.where(seen, values, 0)[blocks].reshape(tiled).sum((1, 3), dtype=np.float64)
        known = count >= factor * factor / 2
        if min(rows, columns) < 16 or known.mean() < 0.05:
            return None
        image = total / np.maximum(count, 1)
        low, high = np.percentile(image[known], (0.5, 99.5))
        if not high > low:
            return None
        return cls(np.clip((image - low) / (high - low), 0, 1).astype(np.float32), known, factor)

    def whole(self, edge: Edge) -> Edge:
        """The same edge in pixels of the whole image."""
        middle = (self.factor - 1) / 2
        if isinstance(edge, RoundEdge):
            row, column = (value * self.factor + middle for value in edge.centre)
            return RoundEdge((row, column), edge.radius * self.factor, edge.contrast)
        return StraightEdge(edge.normal, edge.offset * self.factor + middle * sum(edge.normal), edge.contrast)

    def reduced(self, edge: Edge) -> Edge:
        """An edge of the whole image in pixels of this one."""
        middle = (self.factor - 1) / 2
        if isinstance(edge, RoundEdge):
            row, column = ((value - middle) / self.factor for value in edge.centre)
            return RoundEdge((row, column), edge.radius / self.factor, edge.contrast)
        return StraightEdge(edge.normal, (edge.offset - middle * sum(edge.normal)) / self.factor, edge.contrast)


def _find_round_edge(coarse: _Reduced, fine: _Reduced, field: np.ndarray) -> Edge | None:
    """A circle, placed in the finer image; None where there is none."""
    circle = _find_circle(coarse.image, field)
    return None if circle is None else _place(fine, coarse.whole(circle), [])


@dataclass(frozen=True, eq=False)
class _Direction:
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


def _scan_directions(image: np.ndarray) -> list[tuple[_Direction, _Direction]]:
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
                _Direction(normal, at - reach, step, (below > SATURATED) & (step > -LEAST_STEP), places),
                _Direction(-normal, reach - at, -step, (above > SATURATED) & (step < LEAST_STEP), places),
            )
        )
    return found


def _turn(image: np.ndarray, places: tuple[np.ndarray, np.ndarray], size: int) -> np.ndarray:
    turned = ndimage.affine_transform(image, places[0], offset=places[1], output_shape=(size, size), order=1, cval=0.0)
    return np.asarray(turned)


def _find_line(
    shape: tuple[int, int], field: np.ndarray, pairs: list[tuple[_Direction, _Direction]], least_share: float
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


def _find_circle(image: np.ndarray, field: np.ndarray) -> RoundEdge | None:
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


def _place(fine: _Reduced, edge: Edge, others: list[Edge]) -> Edge | None:
    """The edge where its profiles rise, fitted in the finer image.

    The given one is returned where too few profiles show it, None where it is no circle though it should be.
    """
    field = fine.seen.copy()
    for other in others:
        field &= fine.reduced(other).opening(field.shape)
    near = fine.reduced(edge)
    reach = max(0.03 * max(field.shape), 4.0)
    across = np.arange(-reach, reach + 0.25, 0.5)
    starts, ways = _profiles(near, field.shape)
    points = starts[:, :, None] + ways[:, :, None] * across
    profile = ndimage.map_coordinates(fine.image, points, order=1, mode="nearest")
    known = ndimage.map_coordinates(field.astype(np.float32), points, order=0, mode="constant", cval=0.0) > 0
    at, strong = _crossings(profile, known, across)
    if strong.sum() < 12:
        return edge
    touched = (starts + ways * at)[:, strong]
    if isinstance(near, StraightEdge):
        return fine.whole(_fit_line(near, touched))
    circle, fitted = _fit_circle(near, touched)
    return fine.whole(circle) if fitted >= LEAST_FITTED else None


def _profiles(edge: Edge, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Points on an edge that lie in the image, and the outward direction at each, (2, n)."""
    if isinstance(edge, RoundEdge):
        angles = np.linspace(0, 2 * np.pi, 361)[:-1]
        ways = np.stack([np.sin(angles), np.cos(angles)])
        starts = np.array(edge.centre)[:, None] + edge.radius * ways
    else:
        normal = np.array(edge.normal)
        middle = (np.array(shape) - 1) / 2
        foot = middle + (edge.offset - normal @ middle) * normal
        along = np.arange(-np.hypot(*shape) / 2, np.hypot(*shape) / 2, 2.0)
        starts = foot[:, None] + np.stack([normal[1] * along, -normal[0] * along])
        ways = np.repeat(normal[:, None], starts.shape[1], axis=1)
    inside = ((starts >= 0) & (starts <= np.array(shape)[:, None] - 1)).all(0)
    return starts[:, inside], ways[:, inside]


def _crossings(profile: np.ndarray, known: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each profile crosses `EDGE_LEVEL` between its levels about its steepest rise, and which are clear."""
    smooth = ndimage.uniform_filter1d(profile, 5, axis=1, mode="nearest")
    count = len(across)
    width = max(count // 8, 3)
    rise = np.full(profile.shape, -1.0, np.float32)
    rise[:, width:-width] = smooth[:, 2 * width :] - smooth[:, : -2 * width]
    top = np.argmax(rise, axis=1)
    rows = np.arange(len(profile))
    low = smooth[rows, np.maximum(top - 2 * width, 0)]
    high = smooth[rows, np.minimum(top + 2 * width, count - 1)]
    before = (np.arange(count) <= top[:, None] + 2 * width) & (np.arange(count) >= top[:, None] - 2 * width)
    level = low + EDGE_LEVEL * (high - low)
    above = before & (smooth >= level[:, None])
    at = across[np.argmax(above, axis=1)]
    return at, (high - low > 2 * LEAST_STEP) & known[:, : count // 2].all(axis=1) & above.any(axis=1)


def _fit_line(edge: StraightEdge, points: np.ndarray) -> StraightEdge:
    """A line through points (2, n), half of which may be wrong."""
    normal = np.array(edge.normal)
    tangent = np.array([normal[1], -normal[0]])
    along, height = tangent @ points, normal @ points
    keep = np.abs(height - np.median(height)) <= max(4 * float(np.median(np.abs(height - np.median(height)))), 1.0)
    slope, level = 0.0, float(np.median(height))
    for _ in range(8):
        slope, level = (float(value) for value in np.polyfit(along[keep], height[keep], 1))
        off = np.abs(height - slope * along - level)
        keep = off <= max(2.5 * float(np.median(off)), 0.75)
    turned = normal - slope * tangent
    length = float(np.linalg.norm(turned))
    return StraightEdge((float(turned[0] / length), float(turned[1] / length)), level / length, edge.contrast)


def _fit_circle(edge: RoundEdge, points: np.ndarray) -> tuple[RoundEdge, float]:
    """A circle through points (2, n), some of which may be wrong, and the share of them that lies on it."""
    keep = np.ones(points.shape[1], bool)
    centre, radius = np.array(edge.centre), edge.radius
    for _ in range(8):
        matrix = np.column_stack([2 * points[:, keep].T, np.ones(keep.sum())])
        solution = np.linalg.lstsq(matrix, (points[:, keep] ** 2).sum(0), rcond=None)[0]
        centre = solution[:2]
        radius = float(np.sqrt(max(solution[2] + centre @ centre, 1.0)))
        off = np.abs(np.hypot(*(points - centre[:, None])) - radius)
        keep = off <= max(2.5 * float(np.median(off)), 0.75)
    fitted = float(np.mean(off <= max(0.01 * radius, 2.0)))
    return RoundEdge((float(centre[0]), float(centre[1])), radius, edge.contrast), fitted
