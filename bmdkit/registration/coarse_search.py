"""The coarse search: from one start after another, until the match is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.global_search import search_globally
from bmdkit.registration.initialisation import make_default_start
from bmdkit.registration.priors import find_anchor_deviations
from bmdkit.registration.refinement import Refinement
from bmdkit.registration.scene import Poses, Scene
from bmdkit.registration.search_stages import OnGeneration, refine_bodies, search_anchor, search_jointed
from bmdkit.registration.settings import StartSpread
from bmdkit.registration.similarity import FITTED_MEASURE
from bmdkit.registration.survey import find_turn_step, survey_places

_SAME = np.array([0.4, 0.4, 0.4, 0.3, 0.3, 1.0])
"""Scaled units within which two searches have ended at the same pose; depth is hardly seen."""

_WIDE = 3.0
"""Scaled units of a start's uncertainty beyond which a search from there alone is not tried first."""


_ROUNDS = ((12, 2), (5, 12))
"""Of the places of a survey: how many are refined in each round, and by how many iterations at most."""

_DOUBT = 0.06
"""Lead of the best end over the next unlike it, in similarity, below which more places of several views are refined."""

_ROUNDS_IN_DOUBT = ((40, 2), (16, 3), (6, 12))
"""The same then; what the first rounds have refined already is not refined anew in the first of these."""

_AROUND = np.array([*np.eye(3), *-np.eye(3), *(np.array(list(product((-1, 1), repeat=3))) / np.sqrt(3))])
"""Axes (n, 3) about which the best end in several views is turned by one step of the survey, to look beyond it."""

_ROUNDS_AROUND = (2, 3)
"""Iterations of the refinement from each of these, and how many are refined to their end."""

_UNLIKE = 3
"""Ends of them at different poses that are told apart at the fine level."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """Where one coarse search ended.

    Attributes:
        poses: camera_from_ct by body.
        refinement: The refinement that ended there.
        similarity: Similarity of the whole image, comparable between attempts; less a prior where the start is known.
        lead: By how much it fits better at the fine level than the best attempt at an unlike pose; 1 where only hips,
            of which one is told, were searched.
    """

    poses: Poses
    refinement: Refinement
    similarity: float
    lead: float = 1.0


@dataclass(frozen=True, eq=False)
class _Postponed:
    """A first body that was found at an unlikely place, and who is told of the rest of its search."""

    pose: RigidTransform
    on_generation: OnGeneration


def search_coarsely(
    scene: Scene,
    start: RigidTransform | None,
    rng: np.random.Generator,
    on_generation: OnGeneration,
    spread: StartSpread | None = None,
) -> tuple[list[Attempt], int]:
    """Search from the start, and while the match is poor from where a global search fits best.

    The global search is laid about the start, and where the start's own uncertainty is not known about the standard
    view too; it comes first where the start is known to be farther off than a search reaches. Where the first body
    ended at an unlikely place, the others are looked for only if no other search ends better. Thresholds of the
    similarity hold for the measure that they were fitted on; with another, only searches that agree end the rest.

    Args:
        scene: Coarse level of the radiographs.
        start: camera_from_ct to search from; the standard view if not given.
        rng: Generator of all random draws.
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.
        spread: How sure the start is; None where that is not known.

    Returns:
        The best attempt, with others at unlike poses that a finer level may prefer; and the number of poses rendered
        for all of them.
    """
    if scene.bodies[0].scale != 1.0:
        return _search_surveyed(scene, start, rng, on_generation, spread)
    config, names = scene.config, [body.name for body in scene.bodies]
    attempts: list[Attempt] = []
    postponed: list[_Postponed] = []
    usual = make_default_start(scene.bodies, scene.level.geometry, config)
    starts, evaluations = [start or usual], 0
    centres = [usual] if start is None else [start] if spread else [start, usual]
    is_fitted = config.similarity == FITTED_MEASURE
    is_wide = spread is not None and float(find_anchor_deviations(scene).max()) > _WIDE
    for number in range(1 + config.restarts):
        if number == (0 if is_wide else 1):
            survey = search_globally if len(scene.views) == 1 else survey_places
            surveys = [survey(scene, view, max(config.restarts, 1)) for view in centres]
            surveyed = [found[k] for k in range(max(config.restarts, 1)) for found, _ in surveys if k < len(found)]
            starts = surveyed + starts if is_wide else starts + surveyed
            evaluations += sum(used for _, used in surveys)
        tagged = add_tag(on_generation, f" restart {number}" if number else "")
        sigma = config.pelvis.sigma / (2 if number else 1)
        begin = starts[min(number, len(starts) - 1)]
        centre = None if begin is start else start
        pose, anchor = search_anchor(scene, begin, rng, sigma=sigma, spread=spread, centre=centre, on_generation=tagged)
        evaluations += anchor.evaluations + 1
        if is_fitted and len(names) > 1 and scene.likeness(dict.fromkeys(names, pose)) < config.put_off_below:
            postponed.append(_Postponed(pose, tagged))
            continue
        attempt, used = search_others(scene, pose, rng, tagged)
        attempts.append(_believe(scene, attempt, start if spread else None))
        evaluations += used
        is_good = is_fitted and _best(attempts).refinement.score >= config.restart_below
        if is_good or (len(attempts) > 1 and agree(scene, _best(attempts[:-1]), attempts[-1])):
            return [_best(attempts)], evaluations
    for late in postponed:
        attempt, used = search_others(scene, late.pose, rng, late.on_generation)
        attempts.append(_believe(scene, attempt, start if spread else None))
        evaluations += used
    return [_best(attempts)], evaluations


def _search_surveyed(
    scene: Scene,
    start: RigidTransform | None,
    rng: np.random.Generator,
    on_generation: OnGeneration,
    spread: StartSpread | None,
) -> tuple[list[Attempt], int]:
    """Search bodies that are small in their radiographs: a survey of all of these, and refinements from its places.

    Many places are refined a little, the best of them further. In several views the best end is then turned each way,
    as a start may be turned further off than the survey reaches; and more places are refined where two unlike ends fit
    about as well: a wrong pose seldom leads there, while one view alone often tells depths no better. They are compared
    by the similarity near the bodies, for over the whole of a radiograph most of it would be that of what lies
    elsewhere.
    """
    usual = make_default_start(scene.bodies, scene.level.geometry, scene.config)
    centres = [usual] if start is None else [start] if spread else [start, usual]
    names, evaluations = [body.name for body in scene.bodies], 0
    first: list[Poses] = []
    further: list[Poses] = []
    for centre in centres:
        places, used = survey_places(scene, centre, _ROUNDS_IN_DOUBT[0][0])
        evaluations += used
        begins = [dict.fromkeys(names, place) for place in places]
        first += begins[: _ROUNDS[0][0]]
        further += begins[_ROUNDS[0][0] :]
    believed = start if spread else None
    rounds = 0

    def refine_best(begins: Sequence[Poses], iterations: int) -> list[Attempt]:
        nonlocal evaluations, rounds
        attempts, used = _refine_each(scene, begins, iterations, believed)
        evaluations, rounds = evaluations + used, rounds + 1
        on_generation("survey", rounds, -attempts[0].similarity)
        return attempts

    tried = refine_best(first, _ROUNDS[0][1])
    ended = refine_best([attempt.poses for attempt in tried[: _ROUNDS[1][0]]], _ROUNDS[1][1])
    if len(scene.views) > 1:
        around = refine_best(_turn_about(scene, ended[0].poses), _ROUNDS_AROUND[0])[: _ROUNDS_AROUND[1]]
        ended = _sort(ended + refine_best([attempt.poses for attempt in around], _ROUNDS[1][1]))
    ends = _find_unlike(scene, ended)
    if (
        len(scene.views) > 1
        and further
        and ends[0].similarity - max([0.0, *(end.similarity for end in ends[1:])]) < _DOUBT
    ):
        tried = _sort(tried + refine_best(further, _ROUNDS_IN_DOUBT[0][1]))
        for count, iterations in _ROUNDS_IN_DOUBT[1:]:
            tried = refine_best([attempt.poses for attempt in tried[:count]], iterations)
        ends = _find_unlike(scene, _sort(ended + tried))
    if len(names) > 1:
        completed = [search_others(scene, end.poses[names[0]], rng, on_generation) for end in ends]
        return [attempt for attempt, _ in completed], evaluations + sum(used for _, used in completed)
    return ends, evaluations


def _turn_about(scene: Scene, poses: Poses) -> list[Poses]:
    """Poses of all bodies, turned together by one step of the survey each way."""
    values = np.zeros((len(_AROUND), 6))
    values[:, :3] = np.radians(find_turn_step(scene.config.prior.rotation_deg)) * _AROUND / scene.unit[:3]
    first = scene.bodies[0].name
    moved = [RigidTransform(each) for each in scene.parameters(poses[first]).matrices(values)]
    back = poses[first].inverse()
    return [{name: pose @ back @ own for name, own in poses.items()} for pose in moved]


def _refine_each(
    scene: Scene, begins: Sequence[Poses], iterations: int, start: RigidTransform | None
) -> tuple[list[Attempt], int]:
    """Refine from each of some places; where that ended, best first, and the number of poses rendered."""
    attempts: list[Attempt] = []
    evaluations = 0
    for begin in begins:
        poses, refinement = refine_bodies(scene, begin, iterations=iterations)
        evaluations += refinement.evaluations + 1
        attempts.append(_believe(scene, Attempt(poses, refinement, scene.likeness(poses)), start))
    return _sort(attempts), evaluations


def _sort(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Best first."""
    return sorted(attempts, key=lambda attempt: -attempt.similarity)


def _find_unlike(scene: Scene, attempts: Sequence[Attempt]) -> list[Attempt]:
    """The first of some attempts that ended at different poses."""
    ends: list[Attempt] = []
    for attempt in attempts:
        if len(ends) < _UNLIKE and not any(agree(scene, end, attempt) for end in ends):
            ends.append(attempt)
    return ends


def _best(attempts: list[Attempt]) -> Attempt:
    return max(attempts, key=lambda attempt: attempt.similarity)


def _believe(scene: Scene, attempt: Attempt, start: RigidTransform | None) -> Attempt:
    """The attempt, its similarity less what its distance from a start counts that is known to be near."""
    if start is None:
        return attempt
    values = scene.parameters(start).values(attempt.poses[scene.bodies[0].name])
    penalty = scene.config.prior.weight * float(((values / find_anchor_deviations(scene)) ** 2).sum())
    return replace(attempt, similarity=attempt.similarity - penalty)


def agree(scene: Scene, one: Attempt, other: Attempt) -> bool:
    """Whether two searches ended at the same pose of the first body, so far as the radiographs of a scene show it."""
    name = scene.bodies[0].name
    away = scene.parameters(one.poses[name]).values(other.poses[name])
    return bool((np.abs(away) < _SAME).all())


def search_others(
    scene: Scene, pose: RigidTransform, rng: np.random.Generator, on_generation: OnGeneration
) -> tuple[Attempt, int]:
    """From where the first body was found: the others, and all together.

    Args:
        scene: One level of the radiographs.
        pose: camera_from_ct of the first body.
        rng: Generator of all random draws.
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.

    Returns:
        Where that ended, and the number of poses rendered.
    """
    poses: Poses = {body.name: pose for body in scene.bodies}
    evaluations = 0
    for again in ("", " again")[: len(scene.bodies)]:  # others are looked for once more where the first was refined to
        for body in scene.bodies[1:]:
            tagged = add_tag(on_generation, again)
            poses[body.name], used = search_jointed(scene, body.name, poses, rng, on_generation=tagged)
            evaluations += used
        poses, refinement = refine_bodies(scene, poses, on_generation=on_generation, stage="joint coarse" + again)
        evaluations += refinement.evaluations
    similarity = float(scene.comparison.scores(tuple(image[None] for image in scene.render_all(poses)))[0])
    return Attempt(poses, refinement, similarity), evaluations


def add_tag(on_generation: OnGeneration, tag: str) -> OnGeneration:
    """The same function, told of stages whose names end with a tag."""

    def tagged(stage: str, number: int, cost: float) -> None:
        on_generation(stage + tag, number, cost)

    return tagged
