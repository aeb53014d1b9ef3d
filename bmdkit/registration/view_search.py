"""One search of the radiographs of one moment: coarsely from its starts, then finely, then judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.pose_json import PoseSpread
from bmdkit.registration.coarse_search import Attempt, add_tag, agree, search_coarsely, search_others
from bmdkit.registration.intrinsics import adjust_camera
from bmdkit.registration.multi_body import MultiBodyProblem
from bmdkit.registration.quality import Evidence, gather_evidence, judge
from bmdkit.registration.refinement import Refinement
from bmdkit.registration.result import BodyResult
from bmdkit.registration.scene import Poses, Scene
from bmdkit.registration.search_stages import OnGeneration, refine_bodies
from bmdkit.registration.settings import StartSpread
from bmdkit.registration.staging import Staging
from bmdkit.registration.uncertainty import find_covariances

_GLANCE = 3  # iterations after which attempts are compared at the fine level


@dataclass(frozen=True, eq=False)
class Ending:
    """Where the last refinement ended.

    Attributes:
        poses: camera_from_ct by body, of the first camera.
        refinement: The refinement itself.
        coarse, fine: The scenes, as the refined cameras see them.
        cameras: The refined cameras, full-resolution pixels.
        evaluations: Poses rendered.
    """

    poses: Poses
    refinement: Refinement
    coarse: Scene
    fine: Scene
    cameras: tuple[ProjectionGeometry, ...]
    evaluations: int

    def seen_by(self, number: int) -> Poses:
        """The poses in one of the cameras."""
        view = self.fine.views[number]
        return {name: RigidTransform(view.place(pose.matrix[None])[0]) for name, pose in self.poses.items()}


@dataclass(frozen=True, eq=False)
class Searched:
    """Where the coarse search of one view ended.

    Attributes:
        staging: What its scenes are made of.
        scene: The scene that was searched.
        start: camera_from_ct that the search started from.
        best: The best attempt.
        evaluations: Poses rendered.
    """

    staging: Staging
    scene: Scene
    start: RigidTransform
    best: Attempt
    evaluations: int


@dataclass(frozen=True, eq=False)
class Completed:
    """Views that were searched, refined and judged.

    Attributes:
        coarse: Their coarse search.
        ending: Where the last refinement ended.
        bodies: Results of the bones by name, of every radiograph.
        evaluations: Poses rendered for all of it.
    """

    coarse: Searched
    ending: Ending
    bodies: tuple[dict[str, BodyResult], ...]
    evaluations: int


@dataclass(frozen=True, eq=False)
class Search:
    """How one search begins.

    Attributes:
        start: camera_from_ct of the first radiograph; None for the standard view.
        spread: How sure it is; None where that is not known.
        rng: Generator of all random draws.
    """

    start: RigidTransform | None
    spread: StartSpread | None
    rng: np.random.Generator

    def run(self, staging: Staging, on_generation: OnGeneration) -> Searched:
        """Search at the coarse level, from the view that the camera stands for if no start is given."""
        scene = staging.make_coarse()
        attempts, evaluations = search_coarsely(scene, self.start, self.rng, on_generation, self.spread)
        if self.start is not None and _may_be_confused(attempts, staging):
            found = attempts[0].poses
            tagged = add_tag(on_generation, " at a finer level")
            other, used = search_others(staging.make_middle(found), found[staging.bodies[0].name], self.rng, tagged)
            attempts, evaluations = [*attempts, other], evaluations + used
        best, used = _choose_finely(staging, attempts)
        return Searched(staging, scene, staging.start, best, evaluations + used)

    def complete(self, coarse: Searched, on_generation: OnGeneration) -> Completed:
        """Refine what a coarse search found, and judge it."""
        ending = _refine_finely(coarse.scene, coarse.staging, coarse.best.poses, on_generation)
        evidence, gathered = gather_evidence(
            ending.coarse, ending.fine, ending.poses, ending.refinement, coarse.start, self.rng, lead=coarse.best.lead
        )
        judged = tuple(_judge_bodies(ending, k, evidence, coarse.start) for k in range(len(ending.fine.views)))
        return Completed(coarse, ending, judged, coarse.evaluations + ending.evaluations + gathered)


def _may_be_confused(attempts: Sequence[Attempt], staging: Staging) -> bool:
    """Whether the femurs may have been taken for each other's shadows, as in a lateral view, where these overlap.

    At the coarse level the right poses then fit no better than wrong ones. A view that is given is asked alone: in the
    standard one the femurs lie apart.
    """
    is_poor = attempts[0].refinement.score < staging.config.restart_below
    return staging.bodies[0].scale == 1.0 and len(staging.bodies) > 1 and is_poor


def _choose_finely(staging: Staging, attempts: Sequence[Attempt]) -> tuple[Attempt, int]:
    """The attempt that the fine level prefers after a few iterations, there; and the number of poses rendered.

    Bones beside each other look alike in coarse pixels.
    """
    are_hips = staging.bodies[0].scale == 1.0
    if are_hips and len(attempts) == 1:
        return attempts[0], 0
    finer, used = [], 0
    for attempt in attempts:
        fine = staging.make_fine(attempt.poses)
        poses, refinement = refine_bodies(fine, attempt.poses, iterations=_GLANCE)
        finer.append(replace(attempt, poses=poses, refinement=refinement, similarity=fine.likeness(poses)))
        used += refinement.evaluations + 1
    finer.sort(key=lambda attempt: -attempt.similarity)
    if are_hips:
        return finer[0], used
    best, scene = finer[0], staging.make_fine(finer[0].poses)
    unlike = [attempt.similarity for attempt in finer[1:] if not agree(scene, best, attempt)]
    return replace(best, lead=best.similarity - max([0.0, *unlike])), used


def _refine_finely(coarse: Scene, staging: Staging, poses: Poses, on_generation: OnGeneration) -> Ending:
    """Refine all bodies together at the fine level, and the cameras with them where they are uncertain.

    A camera follows only now: far from the pose, a principal point takes up what the pose should.
    """
    fine = staging.make_fine(poses)
    poses, refinement = refine_bodies(fine, poses, on_generation=on_generation, stage="joint fine")
    evaluations = refinement.evaluations
    cameras = tuple(estimate.camera for estimate in staging.estimates)
    if any(view.sd is not None for view in fine.views):
        poses, refinement, coarse, fine = _move_rig(coarse, fine, poses, on_generation)
        return Ending(poses, refinement, coarse, fine, cameras, evaluations + refinement.evaluations)
    intrinsics_sd = staging.intrinsics_sd
    if not intrinsics_sd:
        return Ending(poses, refinement, coarse, fine, cameras, evaluations)
    _, near = refine_bodies(fine, poses, intrinsics_sd=intrinsics_sd, on_generation=on_generation, stage="joint camera")
    poses, refinement = refine_bodies(
        staging.make_finest(poses),
        poses,
        intrinsics_sd=intrinsics_sd,
        start=near.values,
        iterations=staging.config.camera_iterations,
        on_generation=on_generation,
        stage="joint camera finest",
    )
    moved = refinement.values[6 * len(fine.bodies) :]
    evaluations += near.evaluations + refinement.evaluations
    refined = (adjust_camera(cameras[0], moved),)
    return Ending(poses, refinement, coarse.with_intrinsics(moved), fine.with_intrinsics(moved), refined, evaluations)


def _move_rig(
    coarse: Scene, fine: Scene, poses: Poses, on_generation: OnGeneration
) -> tuple[Poses, Refinement, Scene, Scene]:
    """Refine the places of further cameras with the poses."""
    moved, refinement = refine_bodies(fine, poses, moves_rig=True, on_generation=on_generation, stage="joint cameras")
    problem = MultiBodyProblem(fine, poses, tuple(body.name for body in fine.bodies), moves_rig=True)
    rig = problem.rig_at(refinement.values)
    return moved, refinement, coarse.with_rig(rig), fine.with_rig(rig)


def _judge_bodies(
    ending: Ending, number: int, evidence: dict[str, Evidence], start: RigidTransform
) -> dict[str, BodyResult]:
    """The results of all bodies in one of the radiographs."""
    fine, view = ending.fine, ending.fine.views[number]
    at_start = fine.similarities({body.name: start for body in fine.bodies})
    covariances = find_covariances(fine, ending.poses, ending.refinement)
    turn = np.eye(3) if view.camera_from_first is None else view.camera_from_first.rotation
    found = {}
    for name, pose in ending.seen_by(number).items():
        centre = fine.body(name).centre_mm
        matrix = covariances[name].seen_from(turn, ending.poses[name].apply(centre), pose.apply(centre))
        verdict = judge(evidence[name], fine.config.verdict, measure=fine.config.similarity)
        found[name] = BodyResult(pose, at_start[name].similarity, verdict, evidence[name], PoseSpread(centre, matrix))
    return found
