"""The stages of one registration: pelvis first, then each femur about its head centre, then all together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.motion import UNIT, Motion
from bmdkit.registration.polish import Polished, polish
from bmdkit.registration.scene import Poses, Scene
from bmdkit.registration.search import SearchResult, minimise
from bmdkit.registration.settings import RegistrationConfig

OnGeneration = Callable[[str, int, float], None]
"""Called with the stage, the generation's number, and the best cost so far."""


def anchor_prior(config: RegistrationConfig) -> np.ndarray:
    """Standard deviations of the first body's six values about the start, scaled units."""
    p = config.prior
    turn = np.radians([p.rotation_deg] * 3)
    return np.concatenate([turn, [p.in_plane_mm, p.in_plane_mm, p.depth_mm]]) / UNIT


def search_anchor(
    scene: Scene, start: RigidTransform, rng: np.random.Generator, *, sigma: float, on_generation: OnGeneration | None
) -> tuple[RigidTransform, SearchResult]:
    """Find the first body, the others riding along as they lie in the CT."""
    motion = Motion(start, scene.bodies[0].centre_mm)
    deviation = anchor_prior(scene.config)
    factor = scene.config.prior.weight

    def costs(values: np.ndarray) -> np.ndarray:
        matrices = motion.matrices(values)
        images = sum(scene.render(b.name, matrices) for b in scene.bodies)
        return factor * ((values / deviation) ** 2).sum(1) - scene.level.fixed.scores(images)

    c = scene.config.pelvis
    found = minimise(
        costs,
        np.zeros(6),
        sigma=sigma,
        population=c.population,
        evaluations=c.evaluations,
        rng=rng,
        on_generation=on_generation and (lambda n, cost: on_generation("pelvis", n, cost)),
    )
    return motion.pose(found.values), found


def posture(pelvis: RigidTransform, femur: RigidTransform, side: str) -> np.ndarray:
    """Flexion, abduction and rotation (rad) of a femur against the pelvis, measured from its posture in the CT."""
    turn = pelvis.rotation.T @ femur.rotation
    vector = Rotation.from_matrix(turn).as_rotvec()
    mirror = 1 if side == "L" else -1
    return vector * np.array([1, -mirror, -mirror])


def femur_prior(scene: Scene, name: str, pelvis: RigidTransform, femur: RigidTransform) -> np.ndarray:
    """Residuals of one femur: its turn against the pelvis, and its head centre against the socket, (6,)."""
    p = scene.config.prior
    turn = posture(pelvis, femur, name[-1])
    head = scene.body(name).centre_mm
    gap = femur.apply(head) - pelvis.apply(head)
    return np.concatenate(
        [turn / np.radians([p.flexion_deg, p.abduction_deg, p.axial_rotation_deg]), gap / p.joint_play_mm]
    )


def _turns(flexion: Sequence[float], abduction: Sequence[float], rotation: Sequence[float], side: str) -> np.ndarray:
    mirror = 1 if side == "L" else -1
    angles = np.array(np.meshgrid(flexion, abduction, rotation, indexing="ij")).reshape(3, -1).T
    return Rotation.from_euler("xyz", angles * [1, -mirror, -mirror], degrees=True).as_matrix()


def search_femur(
    scene: Scene,
    name: str,
    poses: Poses,
    rng: np.random.Generator,
    *,
    on_generation: OnGeneration | None = None,
) -> tuple[RigidTransform, int]:
    """Find one femur about its head centre, everything else held; the pose and the number of poses rendered."""
    body, pelvis = scene.body(name), poses["pelvis"]
    head = body.centre_mm
    others = scene.render_all({k: v for k, v in poses.items() if k != name})
    turns = _turns((-16, -8, 0, 8, 16), (-15, -5, 5, 15, 25), (-15, 0, 15), name[-1])
    grid = np.stack([(pelvis @ RigidTransform.about(head, turn)).matrix for turn in turns])
    views = scene.render(name, grid)
    fixed = scene.level.fixed.within(scene.near(views.sum(0)))
    factor = scene.config.prior.weight

    def cost_of(matrices: np.ndarray, images: np.ndarray) -> np.ndarray:
        penalty = [(femur_prior(scene, name, pelvis, RigidTransform(m)) ** 2).sum() for m in matrices]
        return factor * np.array(penalty) - fixed.scores(others + images)

    first = RigidTransform(grid[int(np.argmin(cost_of(grid, views)))])
    motion = Motion(first, head)

    def costs(values: np.ndarray) -> np.ndarray:
        matrices = motion.matrices(values)
        return cost_of(matrices, scene.render(name, matrices))

    c = scene.config.femur
    found = minimise(
        costs,
        np.zeros(6),
        sigma=c.sigma,
        population=c.population,
        evaluations=c.evaluations,
        rng=rng,
        scale=np.array([1, 1, 1, 0.2, 0.2, 0.1]),
        on_generation=on_generation and (lambda n, cost: on_generation(name, n, cost)),
    )
    return motion.pose(found.values), found.evaluations + len(grid)


def polish_all(
    scene: Scene,
    poses: Poses,
    *,
    moving: Sequence[str] | None = None,
    iterations: int | None = None,
    on_generation: OnGeneration | None = None,
    stage: str = "joint",
) -> tuple[Poses, Polished]:
    """Refine the poses of several bodies together, compared near the projected bones.

    The first body is held only weakly, to where it was: what the radiograph does not show stays.
    """
    names = [b.name for b in scene.bodies if moving is None or b.name in moving]
    motions = {name: Motion(poses[name], scene.body(name).centre_mm) for name in names}
    still = {k: v for k, v in poses.items() if k not in names}
    background = scene.render_all(still) if still else None
    everything = scene.render_all(poses)
    seen = everything if background is None else everything - background
    fixed = scene.level.fixed.within(scene.near(seen))
    scale = float(np.sqrt(2 * scene.config.prior.polish_weight))
    whole = Motion(poses[scene.bodies[0].name], scene.bodies[0].centre_mm)
    deviation = anchor_prior(scene.config)

    def prior(x: np.ndarray) -> np.ndarray:
        now = poses | {name: motions[name].pose(x[k]) for k, name in enumerate(names)}
        anchor = scene.bodies[0].name
        parts = [whole.values(now[anchor]) / deviation]
        if anchor == "pelvis":
            parts += [femur_prior(scene, n, now["pelvis"], now[n]) for n in now if n != "pelvis"]
        return scale * np.concatenate(parts)

    result = polish(
        fixed,
        lambda k, values: scene.render(names[k], motions[names[k]].matrices(values)),
        np.zeros((len(names), 6)),
        prior=prior,
        iterations=iterations or scene.config.polish_iterations,
        background=background,
        on_iteration=on_generation and (lambda n, cost: on_generation(stage, n, cost)),
    )
    return poses | {name: motions[name].pose(result.values[k]) for k, name in enumerate(names)}, result
