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

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.registration.global_search import APART_MM, find_directions, find_inner
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.priors import REACH_SD, find_anchor_deviations
from bmdkit.registration.scene import Scene, View
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.similarity import FixedImage

TURN_DEG = (5.0, 8.0)
"""Least and largest angle between neighbouring turns: a refinement ends at the same pose from about as far off."""

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
    step = float(np.clip(rotation_deg, *TURN_DEG))
    reach = TURN_SD * rotation_deg / step
    each = range(-int(reach), int(reach) + 1)
    kept = [turn for turn in product(each, repeat=3) if sum(k * k for k in turn) <= reach**2]
    return np.radians(step) * np.array(kept, float)


def survey_places(scene: Scene, view: RigidTransform, count: int) -> tuple[list[RigidTransform], int]:
    """Find the poses of all bodies, moving as one, that fit all radiographs best.

    Args:
        scene: Coarse level of the radiographs.
        view: camera_from_ct of the first one, that is turned and moved as far as it is uncertain.
        count: Number of poses wanted, at different places first of all.

    Returns:
        The poses, best first; and the number of poses rendered.
    """
    deviations, parameters = find_anchor_deviations(scene), scene.parameters(view)
    turns = make_turns(scene.config.prior.rotation_deg)
    turned = np.zeros((len(turns), 6))
    turned[:, :3] = turns / scene.unit[:3]
    images = scene.render_together(parameters.matrices(turned))
    shifts = _find_shifts(scene, parameters, deviations)
    matches = [
        _match_near(seen.level.fixed, drawn, reach)
        for seen, drawn, reach in zip(scene.views, images, shifts, strict=True)
    ]
    found = [
        _place(scene, parameters, values, maps, deviations)
        for values, maps in zip(turned, zip(*matches, strict=True), strict=True)
    ]
    all_values = np.concatenate([each.values for each in found])
    order = np.argsort(-np.concatenate([each.fits for each in found]), kind="stable")
    taken = _choose(scene, all_values[order], max(count, RATED))
    poses = [RigidTransform(matrix) for matrix in parameters.matrices(taken)]
    names = [body.name for body in scene.bodies]
    likeness = np.array([scene.likeness(dict.fromkeys(names, pose)) for pose in poses])
    return [poses[k] for k in np.argsort(-likeness, kind="stable")[:count]], len(turns) + len(poses)


def _find_shifts(scene: Scene, parameters: PoseParameters, deviations: np.ndarray) -> list[tuple[int, int]]:
    """The largest shifts of rows and columns, in every radiograph, by which the first body's middle can be off."""
    values = np.zeros((8, 6))
    values[:, 3:] = np.array(list(product((-1.0, 1.0), repeat=3))) * REACH_SD * deviations[3:]
    found = []
    for view in scene.views:
        geometry = view.level.geometry
        away = _project(view, parameters.matrices(values), scene) - _project(view, parameters.matrices(np.zeros((1, 6))), scene)
        across, down = np.ceil(np.abs(away).max(0)).astype(int) + 1
        found.append((min(int(down), geometry.rows // 2), min(int(across), geometry.columns // 2)))
    return found


def _match_near(fixed: FixedImage, drawn: np.ndarray, reach: tuple[int, int]) -> Iterator[np.ndarray]:
    """How well DRRs (n, rows, columns) fit a radiograph under shifts up to a reach, as correlations.

    Unlike in a search of a whole radiograph, what is shown about a place counts against it: near other bones there are
    edges for everything.
    """
    size = [fft.next_fast_len(n + far, real=True) for n, far in zip(fixed.pixels.shape, reach, strict=True)]
    shown = find_directions(fixed.pixels[None])[0] * find_inner(fixed.valid)
    spectrum, power = fft.rfft2(shown, size), fft.rfft2((shown**2).sum(0), size)
    for directions in find_directions(drawn):
        own = (directions**2).sum(0)
        fit = fft.irfft2((spectrum * np.conj(fft.rfft2(directions, size))).sum(0), size)
        there = fft.irfft2(power * np.conj(fft.rfft2(own, size)), size)
        yield fit / np.sqrt(np.maximum(there, _LEAST_SHOWN * max(float(own.sum()), 1e-9)))


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
    start = parameters.matrices(turned[None])
    for view, match in zip(scene.views[1:], maps[1:], strict=True):
        shifts = _project(view, matrices, scene) - _project(view, start, scene)
        fits += _look_up(match, shifts, view.level.geometry).reshape(fits.shape)
    fits = np.where(scene.is_within_reach(matrices).reshape(fits.shape), fits, -np.inf)
    apart = find_apart_mm(scene) / scene.unit[5]
    kept_values, kept_fits = [], []
    for of_peak, fit in zip(values, fits, strict=True):
        for _ in range(DEPTHS if steps > 1 else 1):
            best = int(np.argmax(fit))
            kept_values.append(of_peak[best])
            kept_fits.append(fit[best])
            fit[np.abs(depths - depths[best]) < apart] = -np.inf
    return _Candidates(np.array(kept_values), np.array(kept_fits))


def _find_peaks(
    scene: Scene,
    parameters: PoseParameters,
    match: np.ndarray,
    deviations: np.ndarray,
) -> np.ndarray:
    """Scaled moves along x and y of the first camera where a DRR fits best, and how well, (n, 3)."""
    geometry = scene.level.geometry
    depth = float(parameters.start.apply(parameters.centre_mm)[2])
    step = geometry.pixel_step_mm * depth / geometry.sdd_mm / scene.unit[3:5]
    far = np.minimum(np.abs(REACH_SD * deviations[3:5] / step), [geometry.columns / 2, geometry.rows / 2])
    columns, rows = (np.arange(-int(n), int(n) + 1) for n in far)
    values = _cut_out(match, rows, columns)
    moves = np.stack(np.meshgrid(columns * step[0], rows * step[1]), axis=-1)
    peaks = values >= ndimage.maximum_filter(values, 5)
    found = np.column_stack([moves[peaks], values[peaks]])
    return found[np.argsort(-found[:, 2], kind="stable")[:PEAKS]]


def _project(view: View, matrices: np.ndarray, scene: Scene) -> np.ndarray:
    """Pixels (n, 2), column and row, of the first body's middle in one radiograph."""
    points = (view.place(matrices) @ np.append(scene.bodies[0].centre_mm, 1.0))[:, :3]
    points[:, 2] = np.maximum(points[:, 2], 1.0)
    return view.level.geometry.project(points)


def _look_up(match: np.ndarray, shifts: np.ndarray, geometry: ProjectionGeometry) -> np.ndarray:
    """The match at shifts (n, 2) of columns and rows, the best of the pixels about each; 0 outside of the image."""
    across, down = np.rint(shifts).astype(int).T
    inside = (np.abs(down) <= geometry.rows / 2) & (np.abs(across) <= geometry.columns / 2)
    rows, columns = (np.arange(line[inside].min(initial=0) - 1, line[inside].max(initial=0) + 2) for line in (down, across))
    best = ndimage.maximum_filter(_cut_out(match, rows, columns), 3)
    row, column = np.clip(down - rows[0], 0, len(rows) - 1), np.clip(across - columns[0], 0, len(columns) - 1)
    return np.where(inside, best[row, column], 0.0)


def _cut_out(match: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The match [row, column] at some shifts, which stand in the order of a Fourier transform."""
    return match[np.ix_(rows % match.shape[0], columns % match.shape[1])]


def find_apart_mm(scene: Scene) -> float:
    """Find the least distance between two places of the bodies of a scene, mm."""
    return APART_MM * scene.config.patch_mm / RegistrationConfig().patch_mm


def _choose(scene: Scene, values: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of scaled values (n, 6), no more than `ALIKE` turns at one place."""
    apart, step = find_apart_mm(scene), np.radians(np.clip(scene.config.prior.rotation_deg, *TURN_DEG))
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
