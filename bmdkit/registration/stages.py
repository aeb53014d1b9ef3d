"""The stages of one registration: pelvis first, then each femur about its head centre, then all together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.motion import UNIT, Motion, rotation_vectors
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


def posture(anchors: np.ndarray, femurs: np.ndarray, side: str) -> np.ndarray:
    """Turn of a femur against the pelvis since the CT, (n, 3), rad: extension, abduction, outward rotation.

    A rotation vector in CT axes, of camera_from_ct (n, 4, 4); its signs mean the same on both sides.
    """
    turns = np.swapaxes(anchors[:, :3, :3], 1, 2) @ femurs[:, :3, :3]
    mirror = 1 if side == "L" else -1
    return rotation_vectors(turns) * np.array([1, -mirror, mirror])


def femur_prior(scene: Scene, name: str, anchors: np.ndarray, femurs: np.ndarray) -> np.ndarray:
    """Residuals of one femur: its turn against the pelvis, and its head centre against the socket.

    Args:
        scene: Of the bodies and settings.
        name: Of the femur.
        anchors, femurs: camera_from_ct of the pelvis and of the femur, (n, 4, 4).

    Returns:
        (n, 6), in standard deviations.
    """
    p = scene.config.prior
    limits = np.radians([p.flexion_deg, p.abduction_deg, p.axial_rotation_deg])
    gap = (femurs - anchors) @ np.append(scene.body(name).centre_mm, 1)
    return np.concatenate([posture(anchors, femurs, name[-1]) / limits, gap[:, :3] / p.joint_play_mm], axis=1)


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
    """Find one femur about its head centre, everything else held.

    A grid of turns, CMA-ES from the best of them, and refinements from there, from the pose given, and from the best
    of the grid that are unlike. Their ends are judged by the similarity where the femur itself projects: a shaft that
    lies outside the image must not lose to one laid over soft tissue within it.

    Returns:
        The best pose, and the number of poses rendered.
    """
    body, anchor = scene.body(name), poses[scene.bodies[0].name]
    head = body.centre_mm
    others = scene.render_all({k: v for k, v in poses.items() if k != name})
    turns = _turns((-16, -8, 0, 8, 16), (-15, -5, 5, 15, 25), (-15, 0, 15), name[-1])
    grid = np.stack([(anchor @ RigidTransform.about(head, turn)).matrix for turn in turns])
    views = scene.render(name, grid)
    fixed = scene.level.fixed.within(scene.near(views.sum(0)))
    factor = scene.config.prior.weight

    def penalties(matrices: np.ndarray) -> np.ndarray:
        held = np.broadcast_to(anchor.matrix, matrices.shape)
        return (femur_prior(scene, name, held, matrices) ** 2).sum(1)

    def cost_of(matrices: np.ndarray, images: np.ndarray) -> np.ndarray:
        return factor * penalties(matrices) - fixed.scores(others + images)

    order = np.argsort(cost_of(grid, views), kind="stable")
    motion = Motion(RigidTransform(grid[order[0]]), head)

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
    begins = [poses[name], motion.pose(found.values), *_unlike([RigidTransform(grid[k]) for k in order], c.refined)]
    ends, scores, used = [], [], found.evaluations + len(grid)
    for begin in begins:
        end, polished = polish_all(scene, poses | {name: begin}, moving=[name])
        ends.append(end[name])
        scores.append(polished.score)
        used += polished.evaluations
    judged = factor * penalties(np.stack([end.matrix for end in ends])) - np.array(scores)
    return ends[int(np.argmin(judged))], used


def _unlike(candidates: Sequence[RigidTransform], count: int, apart_deg: float = 13.0) -> list[RigidTransform]:
    """The first `count` of some poses, those left out that turn by little against one already taken."""
    taken: list[RigidTransform] = []
    for pose in candidates:
        if len(taken) == count:
            break
        if all((pose @ other.inverse()).angle_rad() > np.radians(apart_deg) for other in taken):
            taken.append(pose)
    return taken


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
    fixed = scene.level.fixed.within(scene.near(scene.render_all({name: poses[name] for name in names})))
    scale = float(np.sqrt(2 * scene.config.prior.polish_weight))
    anchor = scene.bodies[0].name
    deviation = anchor_prior(scene.config)
    fixed_matrices = {name: pose.matrix[None] for name, pose in still.items()}

    def prior(x: np.ndarray) -> np.ndarray:
        now = {name: motions[name].matrices(x[:, k]) for k, name in enumerate(names)}
        now |= {name: np.broadcast_to(m, (len(x), 4, 4)) for name, m in fixed_matrices.items()}
        parts = [x[:, names.index(anchor)] / deviation] if anchor in names else []
        parts += [femur_prior(scene, n, now[anchor], now[n]) for n in now if n != anchor]
        return scale * np.concatenate(parts, axis=1)

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
