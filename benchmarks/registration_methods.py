"""The methods that benchmarks/registration.py compares, all on the same renderer and the same prepared bones.

Each takes the bones, the radiograph, its camera, a start and a generator, and returns camera_from_ct of every bone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.bodies import COARSE, FINE, Body
from bmdkit.registration.pose_parameters import UNIT, PoseParameters
from bmdkit.registration.pyramid import make_level
from bmdkit.registration.register_bodies import register_bodies
from bmdkit.registration.scene import Scene, View
from bmdkit.registration.search import minimise
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.similarity import FixedImage, Measure


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method made of one radiograph.

    Attributes:
        poses: camera_from_ct by bone.
        evaluations, seconds: What it took.
        verdicts, facts: By bone, where the method has any.
        camera: As the method left it, where it may change it.
    """

    poses: Mapping[str, RigidTransform]
    evaluations: int
    seconds: float
    verdicts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    camera: ProjectionGeometry | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """One radiograph to be registered; `is_usual` where nobody gave the start, and the package looks for its own."""

    bodies: Sequence[Body]
    radiograph: Radiograph
    camera: ProjectionGeometry
    start: RigidTransform
    rng: np.random.Generator
    config: RegistrationConfig
    device: str = "cpu"
    is_usual: bool = False

    def scene(self, pixel_mm: float, voxels: int, measure: Measure) -> Scene:
        """The radiograph at one pixel size, compared by `measure`."""
        config = replace(self.config, similarity=measure)
        level = make_level(self.radiograph, self.camera, pixel_mm, config)
        return Scene(tuple(self.bodies), (View(level),), voxels, config, self.device)


def bmdkit(task: Task) -> Outcome:
    """The package's own registration."""
    found = register_bodies(
        task.bodies,
        task.radiograph,
        geometry=task.camera,
        start=None if task.is_usual else task.start,
        config=task.config,
        rng=task.rng,
        device=task.device,
    )
    return Outcome(
        {name: body.camera_from_ct for name, body in found.bodies.items()},
        found.evaluations,
        found.seconds,
        {name: body.verdict for name, body in found.bodies.items()},
        {name: body.evidence.to_dict() for name, body in found.bodies.items()},
        found.camera,
    )


def none(task: Task) -> Outcome:
    """No optimisation: the start."""
    return Outcome({body.name: task.start for body in task.bodies}, 0, 0.0)


def plain_ncc(task: Task) -> Outcome:
    """CMA-ES on the normalised cross-correlation of whole images, unmasked, at 4 and 2 mm."""
    return _two_levels(task, "ncc")


def unmasked_gc(task: Task) -> Outcome:
    """CMA-ES on the gradient correlation of whole images, unmasked, at 4 and 2 mm. Source: Otake et al. 2012."""
    return _two_levels(task, "gc")


def xreg(task: Task) -> Outcome:
    """The published recipe of xReg for single views: patch gradient correlation at 1/8 and 1/4 of 0.5 mm pixels.

    Pelvis by CMA-ES, population 100, sigma 15, 15, 30 degrees and 50, 50, 100 mm; then a local search; then each femur
    about its head centre with the pelvis held. (Its local search is BOBYQA; here a CMA-ES of small sigma.)
    Source: Grupp et al. 2020, doi 10.1007/s11548-020-02162-7.
    """
    began, used = time.process_time(), 0
    wide = np.concatenate([np.radians([15, 15, 30]), [50, 50, 100]]) / UNIT
    coarse, fine = (task.scene(mm, level, "patch_gc") for mm, level in ((4.0, COARSE), (2.0, FINE)))
    pelvis = coarse.bodies[0]
    pose, n = _cma(coarse, [pelvis.name], {}, task.start, pelvis.centre_mm, task.rng, 1.0, 100, 2000, wide)
    used += n
    pose, n = _cma(fine, [pelvis.name], {}, pose, pelvis.centre_mm, task.rng, 0.1, 12, 200)
    used += n
    poses = {pelvis.name: pose}
    turns = np.array([1, 1, 1, 0.01, 0.01, 0.01])  # about the head centre, which stays
    for body in fine.bodies[1:]:
        there = pose
        for scene, sigma, population in ((coarse, 1.5, 20), (fine, 0.15, 10)):
            held = {pelvis.name: poses[pelvis.name]}
            there, n = _cma(
                scene, [body.name], held, there, body.centre_mm, task.rng, sigma, population, 10 * population, turns
            )
            used += n
        poses[body.name] = there
    return Outcome(poses, used, time.process_time() - began)


def adam(task: Task) -> Outcome:
    """Adam on a multi-scale NCC (whole image and patches), derivatives through the renderer, at 4 and 2 mm.

    Source: Gopalakrishnan et al. 2024, doi 10.1109/CVPR52733.2024.01108, without its learned start: rotations at a
    step of 0.01 rad, translations at 1 mm, 150 steps a level. The femurs then follow with the pelvis held.
    """
    began, used = time.process_time(), 0
    poses: dict[str, RigidTransform] = {}
    for body in task.bodies:
        start = next(iter(poses.values()), task.start)
        riding = [body.name] if poses else [b.name for b in task.bodies]
        for pixel_mm, level in ((4.0, COARSE), (2.0, FINE)):
            scene = task.scene(pixel_mm, level, "ncc")
            held = {name: pose for name, pose in poses.items() if name not in riding}
            start, n = _adam(scene, riding, held, start, body.centre_mm)
            used += n
        poses[body.name] = start
    return Outcome(poses, used, time.process_time() - began)


METHODS: dict[str, Callable[[Task], Outcome]] = {
    "bmdkit": bmdkit,
    "ncc": plain_ncc,
    "gc": unmasked_gc,
    "xreg": xreg,
    "adam": adam,
    "none": none,
}


def _two_levels(task: Task, measure: Measure) -> Outcome:
    began, used = time.process_time(), 0
    coarse, fine = (task.scene(mm, level, measure) for mm, level in ((4.0, COARSE), (2.0, FINE)))
    names = [body.name for body in coarse.bodies]
    centre = coarse.bodies[0].centre_mm
    pose, n = _cma(coarse, names, {}, task.start, centre, task.rng, 1.0, 24, 800)
    used += n
    pose, n = _cma(fine, names[:1], dict.fromkeys(names[1:], pose), pose, centre, task.rng, 0.25, 12, 240)
    used += n
    poses = dict.fromkeys(names, pose)
    for body in fine.bodies[1:]:
        held = {name: p for name, p in poses.items() if name != body.name}
        for scene, sigma, count in ((coarse, 1.0, 240), (fine, 0.25, 160)):
            poses[body.name], n = _cma(
                scene, [body.name], held, poses[body.name], body.centre_mm, task.rng, sigma, 12, count
            )
            used += n
    return Outcome(poses, used, time.process_time() - began)


def _cma(
    scene: Scene,
    moving: Sequence[str],
    held: Mapping[str, RigidTransform],
    start: RigidTransform,
    centre_mm: np.ndarray,
    rng: np.random.Generator,
    sigma: float,
    population: int,
    evaluations: int,
    scale: np.ndarray | None = None,
) -> tuple[RigidTransform, int]:
    parameters = PoseParameters(start, centre_mm)
    background = scene.render_all(held)[0] if held else np.float32(0)

    def costs(values: np.ndarray) -> np.ndarray:
        matrices = parameters.matrices(values)
        return -scene.level.fixed.scores(background + sum(scene.render(name, matrices)[0] for name in moving))

    found = minimise(
        costs,
        np.zeros(6),
        sigma=sigma,
        population=population,
        evaluations=evaluations,
        rng=rng,
        scale=scale,
    )
    return parameters.pose(found.values), found.evaluations


def _adam(
    scene: Scene,
    moving: Sequence[str],
    held: Mapping[str, RigidTransform],
    start: RigidTransform,
    centre_mm: np.ndarray,
) -> tuple[RigidTransform, int]:
    parameters = PoseParameters(start, centre_mm)
    background = scene.render_all(held)[0] if held else np.float32(0)
    fixed = scene.level.fixed
    width, rate = 0.02, np.array([0.01, 0.01, 0.01, 1.0, 1.0, 1.0]) / UNIT
    values, first, second = np.zeros(6), np.zeros(6), np.zeros(6)
    best, best_score, steps = values, -np.inf, 150
    for number in range(1, steps + 1):
        points = values + np.concatenate([np.zeros((1, 6)), np.eye(6) * width, -np.eye(6) * width])
        matrices = parameters.matrices(points)
        scores = _multiscale_ncc(fixed, background + sum(scene.render(name, matrices)[0] for name in moving))
        if scores[0] > best_score:
            best, best_score = values, scores[0]
        slope = -(scores[1:7] - scores[7:]) / (2 * width)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        ahead = (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
        values = values - rate * ahead
    return parameters.pose(best), 13 * steps


def _multiscale_ncc(fixed: FixedImage, images: np.ndarray) -> np.ndarray:
    """Mean of the NCC of the whole image and of its patches of 30 mm."""
    from bmdkit.registration.gradients import join_cells, sum_cells

    whole = replace(fixed, measure="ncc").scores(images)
    moving = np.ascontiguousarray(images, np.float32)[:, None]
    weight = fixed.valid.astype(np.float32)
    own = join_cells(sum_cells(fixed.pixels[None, None], fixed.pixels[None], weight, fixed.cell))[0, 0]
    sums = join_cells(sum_cells(moving, fixed.pixels[None], weight, fixed.cell))[:, 0]
    count = join_cells(sum_cells(np.ones_like(moving[:1]), fixed.pixels[None], weight, fixed.cell))[0, 0, ..., 0]
    count = np.maximum(count, 1)
    moved = np.maximum(sums[..., 1] - sums[..., 0] ** 2 / count, 0)
    still = np.maximum(own[..., 1] - own[..., 0] ** 2 / count, 0)
    product = sums[..., 2] - sums[..., 0] * own[..., 0] / count
    ncc = product / np.sqrt(moved * still + 1e-8)
    return (whole + np.einsum("nrc,rc->n", ncc, fixed.weights)) / 2
