"""The stages of one registration: pelvis first, then each femur about its head centre, then all together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.joints import TurnPrior
from bmdkit.registration.multi_body import MultiBodyProblem
from bmdkit.registration.priors import find_anchor_deviations, find_parent, measure_joint_residuals
from bmdkit.registration.refinement import Refinement, refine
from bmdkit.registration.scene import Images, Poses, Scene, add_images
from bmdkit.registration.search import SearchResult, minimise
from bmdkit.registration.settings import StartSpread

_WIDEST = 2.0
"""Scaled units that the first step of a search is at most."""

_NARROWER = 0.5
"""Share of the evaluations that a search takes about a start that is known to be near."""

OnGeneration = Callable[[str, int, float], None]
"""Called with the stage, the generation's number, and the best cost so far."""


def search_anchor(
    scene: Scene,
    start: RigidTransform,
    rng: np.random.Generator,
    *,
    sigma: float,
    spread: StartSpread | None = None,
    centre: RigidTransform | None = None,
    on_generation: OnGeneration | None,
) -> tuple[RigidTransform, SearchResult]:
    """Find the first body, the others riding along as they lie in the CT.

    Args:
        scene: Coarse level of a radiograph.
        start: camera_from_ct to search from.
        rng: Generator of all random draws.
        sigma: First step, scaled units.
        spread: How sure the start of all searches is: the first step then follows it.
        centre: That start, if it is another: what is known of the pose is known about it.
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.

    Returns:
        Its pose, and the search.
    """
    parameters = scene.parameters(start)
    deviation = find_anchor_deviations(scene)
    away = np.zeros(6) if spread is None or centre is None else scene.parameters(centre).values(start)
    factor = scene.config.prior.weight

    def costs(values: np.ndarray) -> np.ndarray:
        matrices = parameters.matrices(values)
        images = scene.render_together(matrices)
        penalty = (((values + away) / deviation) ** 2).sum(1)
        if scene.hips:
            penalty = penalty + scene.hip_residual(matrices) ** 2
        return np.where(scene.is_within_reach(matrices), factor * penalty - scene.comparison.scores(images), np.inf)

    c = scene.config.pelvis
    found = minimise(
        costs,
        np.zeros(6),
        sigma=sigma,
        population=c.population,
        evaluations=c.evaluations if spread is None else int(_NARROWER * c.evaluations),
        rng=rng,
        scale=np.clip(deviation, 0.1, _WIDEST if centre is None else 1.0) if spread else None,
        on_generation=on_generation and (lambda n, cost: on_generation(scene.bodies[0].name, n, cost)),
    )
    return parameters.pose(found.values), found


def search_jointed(
    scene: Scene,
    name: str,
    poses: Poses,
    rng: np.random.Generator,
    *,
    on_generation: OnGeneration | None = None,
) -> tuple[RigidTransform, int]:
    """Find one body about its joint, for a femur the centre of its head, everything else held.

    A grid of turns, CMA-ES from the best of them, and refinements from there, from the pose given, and from the best
    of the grid that are unlike. Their ends are judged by the similarity where the body itself projects: a shaft that
    lies outside the image must not lose to one laid over soft tissue within it.

    Args:
        scene: Coarse level of a radiograph.
        name: Name of the body.
        poses: Poses of all bodies.
        rng: Generator of all random draws.
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.

    Returns:
        The best pose, and the number of poses rendered.
    """
    body, parent = scene.body(name), poses[find_parent(scene, name)]
    prior = TurnPrior.of(scene.config.prior.rotation_deg) if body.joint is None else body.joint.prior
    others = scene.render_all({k: v for k, v in poses.items() if k != name})
    grid = np.stack([(parent @ RigidTransform.about(body.centre_mm, turn)).matrix for turn in prior.turns()])
    views = scene.render(name, grid)
    near = scene.comparison.within(scene.near(tuple(view.sum(0) for view in views)))
    factor = scene.config.prior.weight

    def penalties(matrices: np.ndarray) -> np.ndarray:
        held = np.broadcast_to(parent.matrix, matrices.shape)
        return (measure_joint_residuals(scene, name, held, matrices) ** 2).sum(1)

    def cost_of(matrices: np.ndarray, images: Images) -> np.ndarray:
        return factor * penalties(matrices) - near.scores(add_images([others, images]))

    order = np.argsort(cost_of(grid, views), kind="stable")
    parameters = scene.parameters(RigidTransform(grid[order[0]]), name)

    def costs(values: np.ndarray) -> np.ndarray:
        matrices = parameters.matrices(values)
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
    begins = [poses[name], parameters.pose(found.values), *_unlike([RigidTransform(grid[k]) for k in order], c.refined)]
    ends, scores, used = [], [], found.evaluations + len(grid)
    for begin in begins:
        end, refinement = refine_bodies(scene, poses | {name: begin}, moving=[name])
        ends.append(end[name])
        scores.append(refinement.score)
        used += refinement.evaluations
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


def refine_bodies(
    scene: Scene,
    poses: Poses,
    *,
    moving: Sequence[str] | None = None,
    intrinsics_sd: tuple[float, ...] = (),
    moves_rig: bool = False,
    start: np.ndarray | None = None,
    iterations: int | None = None,
    on_generation: OnGeneration | None = None,
    stage: str = "joint",
) -> tuple[Poses, Refinement]:
    """Refine the poses of several bodies together, compared near the projected bones.

    The first body is held only weakly, to where it was: what the radiograph does not show stays.

    Args:
        scene: One level of a radiograph.
        poses: Poses of all bodies to begin at.
        moving: Names of the bodies that move; all if not given.
        intrinsics_sd: Standard deviations of the camera's variables, see `MultiBodyProblem`; their values follow those
            of the bodies in the result.
        moves_rig: Whether further cameras move too, where their place is uncertain; their values are the last.
        start: Values of an earlier result, from the same poses.
        iterations: Number of iterations at most; that of the settings if not given.
        on_generation: Function that is called with the stage, the iteration's number and the cost.
        stage: Name of the stage for it.

    Returns:
        The refined poses, and how the refinement ended.
    """
    names = tuple(b.name for b in scene.bodies if moving is None or b.name in moving)
    images = scene.render_all({name: poses[name] for name in names})
    if scene.bodies[0].scale != 1.0:  # hips fill their radiographs
        scene, _ = scene.cut_about(images)
        near = scene.comparison
    else:
        near = scene.comparison.within(scene.near(images))
    problem = MultiBodyProblem(scene, poses, names, intrinsics_sd, moves_rig)
    result = refine(
        near,
        problem,
        start=start,
        iterations=iterations or scene.config.polish_iterations,
        on_iteration=on_generation and (lambda n, cost: on_generation(stage, n, cost)),
    )
    return problem.poses_at(result.values), result
