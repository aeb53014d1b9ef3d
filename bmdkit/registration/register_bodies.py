"""Find the bones of one CT in one radiograph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.radiograph import Radiograph
from bmdkit.regions.hip_angles import HipAngles, find_femur_turn, measure_hip_angles
from bmdkit.registration.bodies import COARSE, FINE, Body
from bmdkit.registration.camera import believe, check_depth
from bmdkit.registration.evidence import gather
from bmdkit.registration.global_search import survey
from bmdkit.registration.initialisation import default_start
from bmdkit.registration.intrinsics import adjusted
from bmdkit.registration.pyramid import make_level
from bmdkit.registration.refinement import Polished
from bmdkit.registration.result import BodyResult, RegistrationResult
from bmdkit.registration.scene import Poses, Scene
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.stages import OnGeneration, polish_all, search_anchor, search_femur
from bmdkit.registration.verdict import judge

MIRROR_WARNING = "the mirrored radiograph fits better: the image may be flipped"


def register_bodies(
    bodies: Sequence[Body],
    radiograph: Radiograph,
    *,
    geometry: ProjectionGeometry | None = None,
    start: RigidTransform | None = None,
    config: RegistrationConfig | None = None,
    rng: np.random.Generator,
    on_generation: Callable[[str, int, float], None] | None = None,
    device: str = "cpu",
) -> RegistrationResult:
    """Find the pose of every bone whose DRR best matches the radiograph.

    Pelvis first, the femurs riding along; then each femur about its head centre; then all together, at two pixel
    sizes. Further starts are tried while the match is poor. Returns the best poses found; a poor one is marked,
    never raised.

    Args:
        bodies: From `prepare_bodies`; the first is searched for, the others about it.
        radiograph: With its spacing and SDD, unless `geometry` is given.
        geometry: Camera of the radiograph's full-resolution pixels.
        start: camera_from_ct to search from; an AP view of the hips if not given.
        config: Settings.
        rng: All randomness.
        on_generation: Called with the stage, the generation's number, and the best cost so far.
        device: "cpu" or "cuda[:N]".

    Raises:
        ValueError: No bodies, or a distance of the geometry is not known.
    Source:
        Otake et al. 2012, doi 10.1109/TMI.2011.2176555; Grupp et al. 2020, doi 10.1007/s11548-020-02162-7.
    """
    config = config or RegistrationConfig()
    if not bodies:
        raise ValueError("bodies: expected at least one, got none")
    bodies = tuple(bodies)
    began = time.process_time()
    belief = believe(radiograph, geometry or radiograph.geometry(), config)
    radiograph, camera, config = belief.radiograph, belief.camera, belief.config
    start = start or default_start(bodies, camera, config)
    coarse_level = make_level(radiograph, camera, config.coarse_pixel_mm, config)
    fine_level = make_level(radiograph, camera, config.fine_pixel_mm, config, patch_mm=config.fine_patch_mm)
    coarse = Scene(bodies, coarse_level, COARSE, config, device, belief.hips)
    fine = Scene(bodies, fine_level, FINE, config, device, belief.hips)
    traces: dict[str, list[float]] = {}

    def record(stage: str, number: int, cost: float) -> None:
        traces.setdefault(stage, []).append(float(cost))
        if on_generation:
            on_generation(stage, number, cost)

    best, evaluations = _search(coarse, start, rng, record)
    sources, lens = dict(belief.sources), belief.lens
    poses, final = polish_all(fine, best.poses, on_generation=record, stage="joint fine")
    if lens:  # only now: far from the pose, a principal point takes up what the pose should
        evaluations += final.evaluations
        _, near = polish_all(fine, poses, lens=lens, on_generation=record, stage="joint camera")
        evaluations += near.evaluations
        level = make_level(radiograph, camera, config.camera_pixel_mm, config, patch_mm=config.fine_patch_mm)
        finest = Scene(bodies, level, FINE, config, device, belief.hips)
        poses, final = polish_all(
            finest,
            poses,
            lens=lens,
            start=near.values,
            iterations=config.camera_iterations,
            on_generation=record,
            stage="joint camera finest",
        )
        moved = final.values[6 * len(bodies) :]
        coarse, fine, camera = coarse.seen_by(moved), fine.seen_by(moved), adjusted(camera, moved)
        if config.camera.principal_point_mm > 0:
            sources["principal_point_uv"] = "registration"
        if len(lens) > 2:
            sources["sdd_mm"] += ", refined by registration"
    facts, used = gather(coarse, fine, poses, final, start, rng)
    evaluations += final.evaluations + used
    warnings = list(belief.warnings)
    found = check_depth(belief, camera, float(poses[bodies[0].name].apply(fine.hip_mm)[2]))
    warnings += [found] if found else []
    if any(f["mirrored"] for f in facts.values()):
        warnings.append(MIRROR_WARNING)
    at_start = fine.similarities({body.name: start for body in bodies})
    results = {
        name: BodyResult(
            pose,
            facts[name]["similarity"],
            at_start[name],
            facts[name]["spread_mm"],
            *judge(facts[name], config.verdict),
        )
        for name, pose in poses.items()
    }
    return RegistrationResult(
        camera=camera,
        sources=sources,
        bodies=results,
        start=start,
        evaluations=int(evaluations),
        seconds=time.process_time() - began,
        traces={stage: tuple(values) for stage, values in traces.items()},
        warnings=tuple(warnings),
        angles=_angles(bodies, poses),
        marker=belief.marker,
    )


def _angles(bodies: Sequence[Body], poses: Poses) -> dict[str, dict[str, HipAngles]]:
    """Hip joint angles by side, in the CT and in the radiograph; none without a pelvis."""
    pelvis, found = bodies[0], {}
    for body in bodies[1:] if pelvis.name == "pelvis" else ():
        side = body.name[-1]
        turn = find_femur_turn(poses[pelvis.name], poses[body.name])
        found[side] = {
            "ct": measure_hip_angles(pelvis.axes, body.axes, side, None),
            "radiograph": measure_hip_angles(pelvis.axes, body.axes, side, turn),
        }
    return found


@dataclass(frozen=True, eq=False)
class _Attempt:
    """Where one coarse search ended; `similarity` is that of the whole image, comparable between attempts."""

    poses: Poses
    polished: Polished
    similarity: float


def _search(
    coarse: Scene, start: RigidTransform, rng: np.random.Generator, record: OnGeneration
) -> tuple[_Attempt, int]:
    """The best of one or more coarse searches, and the poses rendered for all of them.

    The first begins at the start, the others where a survey of the whole radiograph fits best. Where the first body
    ended at an unlikely place, the femurs are looked for only if no other search ends better.
    """
    config, names = coarse.config, [body.name for body in coarse.bodies]
    best, evaluations, begins, put_off = None, 0, [start], []

    def follow(pose: RigidTransform, on_generation: OnGeneration) -> None:
        nonlocal best, evaluations
        attempt, used = _attempt(coarse, pose, rng, on_generation)
        evaluations += used
        if best is None or attempt.similarity > best.similarity:
            best = attempt

    for number in range(1 + config.restarts):
        if number == 1:
            view = default_start(coarse.bodies, coarse.level.geometry, config)
            found, used = survey(coarse, view, config.restarts)
            begins, evaluations = begins + found, evaluations + used
        sigma, tag = config.pelvis.sigma / (2 if number else 1), f" restart {number}" if number else ""
        tagged = lambda s, n, c, tag=tag: record(s + tag, n, c)  # noqa: E731
        begin = begins[min(number, len(begins) - 1)]
        pose, anchor = search_anchor(coarse, begin, rng, sigma=sigma, on_generation=tagged)
        evaluations += anchor.evaluations + 1
        if coarse.likeness(dict.fromkeys(names, pose)) < config.put_off_below:
            put_off.append((pose, tagged))
            continue
        follow(pose, tagged)
        if best.polished.score >= config.restart_below:
            return best, evaluations
    for pose, tagged in put_off:
        follow(pose, tagged)
    return best, evaluations


def _attempt(
    coarse: Scene, pose: RigidTransform, rng: np.random.Generator, record: OnGeneration
) -> tuple[_Attempt, int]:
    """From where the first body was found: the femurs, and all together."""
    poses, evaluations = {body.name: pose for body in coarse.bodies}, 0
    for again in ("", " again"):  # the femurs are looked for once more where the pelvis was refined to
        for body in coarse.bodies[1:]:
            tagged = lambda s, n, c, again=again: record(s + again, n, c)  # noqa: E731
            poses[body.name], used = search_femur(coarse, body.name, poses, rng, on_generation=tagged)
            evaluations += used
        poses, polished = polish_all(coarse, poses, on_generation=record, stage="joint coarse" + again)
        evaluations += polished.evaluations
    similarity = float(coarse.level.fixed.scores(coarse.render_all(poses)[None])[0])
    return _Attempt(poses, polished, similarity), evaluations
