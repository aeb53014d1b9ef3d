"""The field that a collimator leaves open: straight blades of any number and angle, and round openings.

Behind a blade nothing is constant: scatter fades with the distance, and some millimetres of penumbra lie before it.
Edges are searched in a small image (`collimator_search`) and placed in a finer one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.image_content.collimator_edges import Edge, RoundEdge, StraightEdge
from bmdkit.image_content.collimator_search import (
    LEAST_SHARE,
    LEAST_SHARE_IN_ROUND,
    LEAST_STEP,
    find_circle,
    find_line,
    scan_directions,
)

SEARCH_SIDE = 180
"""Longer side of the image in which edges are searched, pixels."""
FINE_SIDE = 860
"""Longer side of the image in which they are placed."""
LEAST_FITTED = 0.7
"""The least part of a round edge that lies on one circle; a polygon's does not."""
MOST_EDGES = 12
PENUMBRA = 2.5
"""How far from an edge that was found others are not looked for, pixels of the search."""
SURROUND_LEVEL = 0.15
"""How far from the extreme value a pixel of a round surround may lie, as a part of the range."""
LEAST_SURROUND = 0.9
"""The least part of what lies beyond the circle that is surround, and of what lies within that is not."""
ROUND_PENUMBRA = 0.015
"""How far within a flat round surround the image is still dimmed, as a part of the radius."""
BRIGHT_PERCENTILE = 10.0
"""Percentile of the field's density up to which a pixel counts as bright."""
MOST_BRIGHT_BEYOND = 0.1
"""The largest part of what lies beyond an edge that may be bright."""
EDGE_LEVEL = 0.25
"""Where the edge is taken to lie between its inner and outer level: half of the beam is a quarter of the logarithm."""


def find_edges(values: np.ndarray, seen: np.ndarray, round_field: RoundEdge | None = None) -> tuple[Edge, ...]:
    """Find the edges of the field that a collimator left open, the clearest first.

    Args:
        values: [row, column], brighter = denser, any scale.
        seen: [row, column], bool; pixels that are known to be no image are False.
        round_field: Round edge that is known already, see `find_round_field`.

    Returns:
        Straight and round edges; none where the whole image is field.
    """
    coarse = _Reduced.of(values, seen, SEARCH_SIDE)
    fine = _Reduced.of(values, seen, FINE_SIDE)
    if coarse is None or fine is None:
        return ()
    found: list[Edge] = [] if round_field is None else [round_field]
    directions = scan_directions(coarse.image)
    field, is_round = coarse.seen, round_field is not None
    if round_field is not None:
        field = field & coarse.reduced(round_field).moved(-PENUMBRA).opening(field.shape)
    while len(found) < MOST_EDGES:
        edge = None if found else _find_round_edge(coarse, fine, field)
        if edge is None:
            least = LEAST_SHARE_IN_ROUND if is_round else LEAST_SHARE
            line = find_line(field.shape, field, directions, least)
            edge = None if line is None else _place(fine, coarse.whole(line), found)
        if edge is None or not _is_dark_beyond(coarse, field, coarse.reduced(edge)):
            break
        is_round = is_round or isinstance(edge, RoundEdge)
        field = field & coarse.reduced(edge).moved(-PENUMBRA).opening(field.shape)
        found.append(edge)
    return tuple(found)


def find_round_field(values: np.ndarray, seen: np.ndarray) -> RoundEdge | None:
    """Find the circle about an image in a flat surround of one extreme value, as that of an image intensifier.

    Args:
        values: [row, column], any scale.
        seen: [row, column], bool; pixels that are known to be no image are False.

    Returns:
        The circle, moved inward by its penumbra; None where there is no such surround.
    """
    reduced = _Reduced.of(values, seen, FINE_SIDE)
    if reduced is None:
        return None
    for image in (reduced.image, 1 - reduced.image):
        circle = _fit_surround(image > 1 - SURROUND_LEVEL)
        if circle is not None:
            return reduced.whole_circle(circle)
    return None


def _fit_surround(flat: np.ndarray) -> RoundEdge | None:
    """The circle whose outside is `flat` and whose inside is not, or None."""
    parts, _ = ndimage.label(flat)
    corners = np.array([parts[0, 0], parts[0, -1], parts[-1, 0], parts[-1, -1]])
    if (corners > 0).sum() < 3:
        return None
    outside = np.isin(parts, corners[corners > 0])
    rows, columns = flat.shape
    if not 0.02 < outside.mean() < 0.7:
        return None
    row, column = np.nonzero(outside & ~ndimage.binary_erosion(outside, border_value=1))
    start = RoundEdge(((rows - 1) / 2, (columns - 1) / 2), min(rows, columns) / 2, 1.0)
    circle, fitted = _fit_circle(start, np.stack([row, column]).astype(float))
    beyond = ~circle.moved(0.01 * circle.radius).opening(flat.shape)
    within = circle.moved(-0.03 * circle.radius).opening(flat.shape)
    if fitted < LEAST_FITTED or beyond.mean() < 0.02 or within.mean() < 0.1:
        return None
    is_round = outside[beyond].mean() >= LEAST_SURROUND and outside[within].mean() <= 1 - LEAST_SURROUND
    return circle.moved(-ROUND_PENUMBRA * circle.radius) if is_round else None


def _is_dark_beyond(coarse: _Reduced, field: np.ndarray, edge: Edge) -> bool:
    """Whether hardly anything beyond an edge is as bright as the brightest of the field: nothing behind a blade is."""
    within = field & edge.opening(field.shape)
    beyond = field & ~edge.moved(PENUMBRA).opening(field.shape)
    if not within.any() or not beyond.any():
        return True
    bright = float(np.percentile(coarse.image[within], BRIGHT_PERCENTILE))
    return float(np.mean(coarse.image[beyond] <= bright)) <= MOST_BRIGHT_BEYOND


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
        if isinstance(edge, RoundEdge):
            return self.whole_circle(edge)
        middle = (self.factor - 1) / 2
        return StraightEdge(edge.normal, edge.offset * self.factor + middle * sum(edge.normal), edge.contrast)

    def whole_circle(self, edge: RoundEdge) -> RoundEdge:
        """The same circle in pixels of the whole image."""
        row, column = (value * self.factor + (self.factor - 1) / 2 for value in edge.centre)
        return RoundEdge((row, column), edge.radius * self.factor, edge.contrast)

    def reduced(self, edge: Edge) -> Edge:
        """An edge of the whole image in pixels of this one."""
        middle = (self.factor - 1) / 2
        if isinstance(edge, RoundEdge):
            row, column = ((value - middle) / self.factor for value in edge.centre)
            return RoundEdge((row, column), edge.radius / self.factor, edge.contrast)
        return StraightEdge(edge.normal, (edge.offset - middle * sum(edge.normal)) / self.factor, edge.contrast)


def _find_round_edge(coarse: _Reduced, fine: _Reduced, field: np.ndarray) -> Edge | None:
    """A circle, placed in the finer image; None where there is none."""
    circle = find_circle(coarse.image, field)
    return None if circle is None else _place(fine, coarse.whole(circle), [])


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
