"""The coarse search: from one start after another, until the match is good enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.global_search import search_globally
from bmdkit.registration.initialisation import make_default_start
from bmdkit.registration.refinement import Refinement
from bmdkit.registration.scene import Poses, Scene
from bmdkit.registration.search_stages import OnGeneration, refine_bodies, search_anchor, search_femur


@dataclass(frozen=True, eq=False)
class Attempt:
    """Where one coarse search ended.

    Attributes:
        poses: camera_from_ct by body.
        refinement: The refinement that ended there.
        similarity: Similarity of the whole image, comparable between attempts.
    """

    poses: Poses
    refinement: Refinement
    similarity: float


@dataclass(frozen=True, eq=False)
class _Postponed:
    """A first body that was found at an unlikely place, and who is told of the rest of its search."""

    pose: RigidTransform
    on_generation: OnGeneration


def search_coarsely(
    scene: Scene, start: RigidTransform, rng: np.random.Generator, on_generation: OnGeneration
) -> tuple[Attempt, int]:
    """Search from the start, and while the match is poor from where a global search fits best.

    Where the first body ended at an unlikely place, the femurs are looked for only if no other search ends better.

    Args:
        scene: Coarse level of a radiograph.
        start: camera_from_ct to search from.
        rng: Generator of all random draws.
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.

    Returns:
        The best attempt, and the number of poses rendered for all of them.
    """
    config, names = scene.config, [body.name for body in scene.bodies]
    attempts: list[Attempt] = []
    postponed: list[_Postponed] = []
    starts, evaluations = [start], 0
    for number in range(1 + config.restarts):
        if number == 1:
            view = make_default_start(scene.bodies, scene.level.geometry, config)
            found, used = search_globally(scene, view, config.restarts)
            starts, evaluations = starts + found, evaluations + used
        tagged = add_tag(on_generation, f" restart {number}" if number else "")
        sigma = config.pelvis.sigma / (2 if number else 1)
        begin = starts[min(number, len(starts) - 1)]
        pose, anchor = search_anchor(scene, begin, rng, sigma=sigma, on_generation=tagged)
        evaluations += anchor.evaluations + 1
        if scene.likeness(dict.fromkeys(names, pose)) < config.put_off_below:
            postponed.append(_Postponed(pose, tagged))
            continue
        attempt, used = _complete(scene, pose, rng, tagged)
        attempts.append(attempt)
        evaluations += used
        if _best(attempts).refinement.score >= config.restart_below:
            return _best(attempts), evaluations
    for late in postponed:
        attempt, used = _complete(scene, late.pose, rng, late.on_generation)
        attempts.append(attempt)
        evaluations += used
    return _best(attempts), evaluations


def _best(attempts: list[Attempt]) -> Attempt:
    return max(attempts, key=lambda attempt: attempt.similarity)


def _complete(
    scene: Scene, pose: RigidTransform, rng: np.random.Generator, on_generation: OnGeneration
) -> tuple[Attempt, int]:
    """From where the first body was found: the femurs, and all together."""
    poses: Poses = {body.name: pose for body in scene.bodies}
    evaluations = 0
    for again in ("", " again"):  # the femurs are looked for once more where the pelvis was refined to
        for body in scene.bodies[1:]:
            tagged = add_tag(on_generation, again)
            poses[body.name], used = search_femur(scene, body.name, poses, rng, on_generation=tagged)
            evaluations += used
        poses, refinement = refine_bodies(scene, poses, on_generation=on_generation, stage="joint coarse" + again)
        evaluations += refinement.evaluations
    similarity = float(scene.level.fixed.scores(scene.render_all(poses)[None])[0])
    return Attempt(poses, refinement, similarity), evaluations


def add_tag(on_generation: OnGeneration, tag: str) -> OnGeneration:
    """The same function, told of stages whose names end with a tag."""

    def tagged(stage: str, number: int, cost: float) -> None:
        on_generation(stage + tag, number, cost)

    return tagged
