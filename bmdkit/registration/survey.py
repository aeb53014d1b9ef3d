"""Where bodies can lie, by all radiographs at once: each is surveyed in its own plane, and the rays are intersected.

A body is turned about its middle and drawn once for every turn and radiograph; the cross-correlation of such a DRR
with its radiograph tells how well every place in the image fits. A place in space is worth what the images say where
it projects, so that none of them has to know the depth by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import fft, ndimage

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.global_search import APART_MM, find_directions, find_inner
from bmdkit.registration.gradients import REACH
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.priors import REACH_SD, find_anchor_deviations
from bmdkit.registration.scene import Scene, View
from bmdkit.registration.settings import RegistrationConfig

TURN_DEG = (5.0, 8.0)
"""Least and largest angle between neighbouring turns: a refinement ends at the same pose from about as far off."""

MOST_STEPS = 4
"""Turns each way about each axis at most."""

PEAKS = 40
"""Places of each turn in the first radiograph that are looked at in the others."""

DEPTHS = 3
"""Depths of each of them that are kept."""

RATED = 100
"""Places that are rated by the similarity near the bodies, once the cross-correlations have named them."""

TURN_SD = 2.5
"""Standard deviations of the start's rotation within which turns are tried."""

ALIKE = 2
"""Turns that are kept at one place."""

_LEAST_SHOWN = 0.05  # of the edges of a DRR: where less is shown, a fit means little
_SAME_TURN = 1.01  # steps between neighbouring turns within which two are one


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Poses with how well each fits.

    Attributes:
        values: (n, 6), scaled values.
        fits: (n,).
    """

    values: np.ndarray
    fits: np.ndarray


def make_turns(rotation_deg: float) -> np.ndarray:
    """Make the turns (n, 3), rad, that are tried where a start is known to `rotation_deg` (standard deviation)."""
    step = find_turn_step(rotation_deg)
    reach = TURN_SD * rotation_deg / step
    each = range(-int(reach), int(reach) + 1)
    kept = [turn for turn in product(each, repeat=3) if sum(k * k for k in turn) <= reach**2]
    return np.radians(step) * np.array(kept, float)


def find_turn_step(rotation_deg: float) -> float:
    """Find the angle between neighbouring turns, degrees; more where they would be too many otherwise."""
    return max(float(np.clip(rotation_deg, *TURN_DEG)), TURN_SD * rotation_deg / MOST_STEPS)


def survey_places(scene: Scene, view: RigidTransform, count: int) -> tuple[list[RigidTransform], int]:
    """Find the poses of all bodies, moving as one, that fit all radiographs best.

    Args:
        scene: Coarse level of the radiographs.
        view: camera_from_ct of the first one, that is turned and moved as far as it is uncertain.
        count: Number of poses wanted, at different places first of all.

    Returns:
        The poses, best first, the view itself where nothing lies in the first image; and the number of poses rendered.
    """
    deviations, parameters = find_anchor_deviations(scene), scene.parameters(view)
    turns = make_turns(scene.config.prior.rotation_deg)
    turned = np.zeros((len(turns), 6))
    turned[:, :3] = turns / scene.unit[:3]
    matches = [_match_everywhere(scene, k, parameters, turned) for k in range(len(scene.views))]
    found = [
        _place(scene, parameters, values, maps, deviations)
        for values, maps in zip(turned, zip(*matches, strict=True), strict=True)
    ]
    all_values = np.concatenate([each.values for each in found])
    order = np.argsort(-np.concatenate([each.fits for each in found]), kind="stable")
    if not len(order):
        return [view], len(turns)
    taken = _choose(scene, all_values[order], max(count, RATED))
    poses = [RigidTransform(matrix) for matrix in parameters.matrices(taken)]
    names = [body.name for body in scene.bodies]
    likeness = np.array([scene.likeness(dict.fromkeys(names, pose)) for pose in poses])
    return [poses[k] for k in np.argsort(-likeness, kind="stable")[:count]], len(turns) + len(poses)


def _match_everywhere(
    scene: Scene, number: int, parameters: PoseParameters, turned: np.ndarray
) -> Iterator[np.ndarray]:
    """How well bodies fit one radiograph with their middle at every pixel [row, column], by each of some turns (n, 6).

    They are drawn as large as they are at the start, whether that lies in the image or not. What is shown about a place
    counts against it: near other bones there are edges for everything.
    """
    view = scene.views[number]
    geometry, fixed = view.level.geometry, view.level.fixed
    matrices = parameters.matrices(turned)
    middle = np.rint(_project(view, matrices[:1], scene)[0]).astype(int)
    depth = float((view.place(matrices[:1]) @ np.append(scene.bodies[0].centre_mm, 1.0))[0, 2])
    radius_mm = _find_radius(scene) + scene.config.mask_margin_mm
    spacing = np.array([geometry.column_spacing_mm, geometry.row_spacing_mm])
    half = np.ceil(radius_mm * geometry.sdd_mm / max(depth, 1.0) / spacing).astype(int) + REACH
    half = np.minimum(half, max(fixed.pixels.shape))  # what is larger than the image fills it
    first, sides = middle - half, 2 * half + 1
    near = geometry.cropped(row=int(first[1]), column=int(first[0]), rows=int(sides[1]), columns=int(sides[0]))
    drawn = scene.render_view(number, matrices, near)
    size = [
        fft.next_fast_len(n + int(side), real=True) for n, side in zip(fixed.pixels.shape, sides[::-1], strict=True)
    ]
    shown = find_directions(fixed.pixels[None])[0] * find_inner(fixed.valid)
    spectrum, power = fft.rfft2(shown, size), fft.rfft2((shown**2).sum(0), size)
    pixels = np.ix_(*((np.arange(n) - far) % m for n, far, m in zip(fixed.pixels.shape, half[::-1], size, strict=True)))
    for directions in find_directions(drawn):
        own = (directions**2).sum(0)
        fit = fft.irfft2((spectrum * np.conj(fft.rfft2(directions, size))).sum(0), size)[pixels]
        there = fft.irfft2(power * np.conj(fft.rfft2(own, size)), size)[pixels]
        yield fit / np.sqrt(np.maximum(there, _LEAST_SHOWN * max(float(own.sum()), 1e-9)))


def _find_radius(scene: Scene) -> float:
    """Distance of the farthest point of all bodies from the middle of the first, mm."""
    centre = scene.bodies[0].centre_mm
    return max(float(np.linalg.norm(body.points_mm - centre, axis=1).max()) for body in scene.bodies)


def _place(
    scene: Scene,
    parameters: PoseParameters,
    turned: np.ndarray,
    maps: tuple[np.ndarray, ...],
    deviations: np.ndarray,
) -> _Candidates:
    """The places of one turn (6,) that fit best, by its match with every radiograph."""
    moves = _find_peaks(scene, parameters, maps[0], deviations)
    pixel_mm = float(np.abs(scene.level.geometry.pixel_step_mm).mean())
    reach = REACH_SD * deviations[5] if len(scene.views) > 1 else 0.0
    steps = 2 * int(np.ceil(reach * scene.unit[5] / pixel_mm)) + 1
    depths = np.linspace(-reach, reach, steps)
    values = np.tile(turned, (len(moves), steps, 1))
    values[:, :, 3:5] += moves[:, None, :2]
    values[:, :, 5] += depths
    fits = np.tile(moves[:, 2:], (1, steps))
    matrices = parameters.matrices(values.reshape(-1, 6))
    for view, match in zip(scene.views[1:], maps[1:], strict=True):
        fits += _look_up(match, _project(view, matrices, scene)).reshape(fits.shape)
    fits = np.where(scene.is_within_reach(matrices).reshape(fits.shape), fits, -np.inf)
    apart = find_apart_mm(scene) / scene.unit[5]
    kept_values, kept_fits = [], []
    for of_peak, fit in zip(values, fits, strict=True):
        for _ in range(DEPTHS if steps > 1 else 1):
            best = int(np.argmax(fit))
            kept_values.append(of_peak[best])
            kept_fits.append(fit[best])
            fit[np.abs(depths - depths[best]) < apart] = -np.inf
    return _Candidates(np.array(kept_values).reshape(-1, 6), np.array(kept_fits))


def _find_peaks(scene: Scene, parameters: PoseParameters, match: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Scaled moves along x and y of the first camera where bodies fit best, and how well, (n, 3)."""
    geometry = scene.level.geometry
    depth = float(parameters.start.apply(parameters.centre_mm)[2])
    step = geometry.pixel_step_mm * depth / geometry.sdd_mm / scene.unit[3:5]
    middle = _project(scene.views[0], parameters.start.matrix[None], scene)[0]
    rows, columns = match.shape
    moves = (np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1) - middle) * step
    inside = (np.abs(moves) <= REACH_SD * deviations[3:5]).all(-1)
    within = np.where(inside, match, -np.inf)  # the best of a small reach may lie at its border
    peaks = inside & (within >= ndimage.maximum_filter(within, 5))
    found = np.column_stack([moves[peaks], match[peaks]])
    return found[np.argsort(-found[:, 2], kind="stable")[:PEAKS]]


def _project(view: View, matrices: np.ndarray, scene: Scene) -> np.ndarray:
    """Pixels (n, 2), column and row, of the first body's middle in one radiograph."""
    points = (view.place(matrices) @ np.append(scene.bodies[0].centre_mm, 1.0))[:, :3]
    points[:, 2] = np.maximum(points[:, 2], 1.0)
    return view.level.geometry.project(points)


def _look_up(match: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The match [row, column] at pixels (n, 2), the best of those about each; 0 outside of the image."""
    column, row = np.rint(pixels).astype(int).T
    inside = (row >= 0) & (row < match.shape[0]) & (column >= 0) & (column < match.shape[1])
    found = np.zeros(len(pixels))
    found[inside] = ndimage.maximum_filter(match, 3)[row[inside], column[inside]]
    return found


def find_apart_mm(scene: Scene) -> float:
    """Find the least distance between two places of the bodies of a scene, mm."""
    return APART_MM * scene.config.patch_mm / RegistrationConfig().patch_mm


def _choose(scene: Scene, values: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of scaled values (n, 6), no more than `ALIKE` turns at one place."""
    apart, step = find_apart_mm(scene), np.radians(find_turn_step(scene.config.prior.rotation_deg))
    moves, turns = values[:, 3:] * scene.unit[3:], values[:, :3] * scene.unit[:3] / step
    open_, taken = np.ones(len(values), bool), []
    for k in _iterate_open(open_):
        taken.append(k)
        if len(taken) == count:
            break
        near = np.linalg.norm(moves - moves[k], axis=1) < apart
        alike = [other for other in taken if near[other]]
        open_ &= ~near if len(alike) >= ALIKE else ~(near & (np.abs(turns - turns[k]) < _SAME_TURN).all(1))
    return values[taken]


def _iterate_open(open_: np.ndarray) -> Iterator[int]:
    """Numbers of what is still open, in their order, while the caller closes some."""
    for k in range(len(open_)):
        if open_[k]:
            yield k
