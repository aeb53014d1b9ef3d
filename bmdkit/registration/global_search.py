"""Where else a search could start: the standard view turned a little and laid over every place of the radiograph.

Moving a body across the image shifts its DRR, so one DRR tells of all places by its cross-correlation with the
radiograph. It is taken between directions of gradients, not their sizes: the strongest edges are seldom the bones'.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy import fft, ndimage

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.gradients import REACH, compute_gradients
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.priors import find_anchor_deviations
from bmdkit.registration.scene import Scene
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.similarity import FixedImage

TURNS = tuple(product((-3.0, -1.5, 0.0, 1.5, 3.0), (-1.5, 0.0, 1.5), (-1.5, 0.0, 1.5)))
"""Scaled turns about the camera's x (pelvic tilt), y and z: to 18, 9 and 9 degrees where those of the start are
uncertain by 12; to more or less elsewhere."""

PLACES = 3
"""Number of places of each turn that are looked at closely."""

APART_MM = 25.0
"""Least distance between two places of one turn, at the detector, for a body of a pelvis's size."""

_USUAL_DEG = 12.0


def search_globally(scene: Scene, view: RigidTransform, count: int) -> tuple[list[RigidTransform], int]:
    """Find the poses of all bodies, moving as one, that fit best among many turns and all places.

    Args:
        scene: Coarse level of a radiograph.
        view: camera_from_ct that is turned and shifted.
        count: Number of poses wanted; those alike are left out.

    Returns:
        The poses, best first; and the number of poses rendered.
    """
    parameters, geometry = scene.parameters(view), scene.level.geometry
    values = np.zeros((len(TURNS), 6))
    values[:, :3] = np.array(TURNS) * (scene.config.prior.rotation_deg / _USUAL_DEG)
    views = scene.render_together(parameters.matrices(values))
    step = geometry.pixel_step_mm
    depth = float(view.apply(scene.bodies[0].centre_mm)[2])
    apart_mm = APART_MM * scene.config.patch_mm / RegistrationConfig().patch_mm
    candidates = []
    for turned, places in zip(values, _places(scene, views[0], apart_mm / np.abs(step).mean()), strict=True):
        for shift in places:
            moved = turned.copy()
            moved[3:5] = shift * step * depth / geometry.sdd_mm / scene.unit[3:5]
            candidates.append(moved)
    tried, deviations = np.array(candidates), find_anchor_deviations(scene)
    costs = _rate(scene, parameters, tried, deviations)
    matrices, order = parameters.matrices(tried), np.argsort(costs, kind="stable")
    taken: list[int] = []
    for k in order:
        if len(taken) == count:
            break
        if all(np.abs(tried[k] - tried[other]).max() > 1.0 for other in taken):
            taken.append(int(k))
    return [RigidTransform(matrices[k]) for k in taken], len(TURNS) + len(tried)


def _rate(scene: Scene, parameters: PoseParameters, values: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Costs (n,) of scaled values (n, 6) of all bodies together."""
    matrices = parameters.matrices(values)
    penalty = scene.config.prior.weight * ((values / deviations) ** 2).sum(1)
    scores = scene.comparison.scores(scene.render_together(matrices))
    return np.where(scene.is_within_reach(matrices), penalty - scores, np.inf)


def _places(scene: Scene, views: np.ndarray, apart: float) -> np.ndarray:
    """Shifts (n, PLACES, 2) in columns and rows by which views (n, rows, columns) fit the radiograph best."""
    rows, columns = scene.level.fixed.pixels.shape
    found = np.empty((len(views), PLACES, 2))
    for n, (match, down, across) in enumerate(_match_everywhere(scene.level.fixed, views)):
        match[np.abs(down) > rows / 2] = -np.inf
        match[:, np.abs(across) > columns / 2] = -np.inf
        for place in range(PLACES):
            i, j = np.unravel_index(np.argmax(match), match.shape)
            found[n, place] = across[j], down[i]
            near = np.hypot(*np.meshgrid(down - down[i], across - across[j], indexing="ij")) < apart
            match[near] = -np.inf
    return found


def _match_everywhere(fixed: FixedImage, views: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """How well each view (n, rows, columns) fits a radiograph under every shift, and the shifts of rows and columns."""
    size = [fft.next_fast_len(2 * n, real=True) for n in fixed.pixels.shape]
    shown = find_directions(fixed.pixels[None])[0] * find_inner(fixed.valid)
    spectrum = fft.rfft2(shown, size)
    down, across = (fft.fftfreq(n, 1 / n) for n in size)
    for directions in find_directions(views):
        weight = np.sqrt(max(float((directions**2).sum()), 1e-9))
        yield fft.irfft2(spectrum * np.conj(fft.rfft2(directions, size)), size).sum(0) / weight, down, across


def find_directions(images: np.ndarray) -> np.ndarray:
    """Gradients (n, 2, rows, columns) of images (n, rows, columns), weak ones fading and strong ones of length one."""
    slopes = compute_gradients(images)
    length = np.sqrt((slopes**2).sum(1, keepdims=True))
    steep = np.quantile(length, 0.9, axis=(1, 2, 3), keepdims=True)
    return slopes / (length + 0.5 * steep + np.float32(1e-12))


def find_inner(valid: np.ndarray) -> np.ndarray:
    """Pixels whose gradient depends on image alone."""
    return ndimage.binary_erosion(valid, np.ones((2 * REACH + 1, 2 * REACH + 1), bool))
