"""Find the bones of one CT in one radiograph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.radiograph import Radiograph
from bmdkit.regions.hip_angles import HipAngles, find_femur_turn, measure_hip_angles
from bmdkit.registration.bodies import COARSE, FINE, Body
from bmdkit.registration.camera import CameraEstimate, check_depth, estimate_camera
from bmdkit.registration.coarse_search import Attempt, add_tag, search_coarsely
from bmdkit.registration.initialisation import make_default_start
from bmdkit.registration.intrinsics import adjust_camera
from bmdkit.registration.pyramid import make_level
from bmdkit.registration.quality import Evidence, gather_evidence, judge
from bmdkit.registration.refinement import Refinement
from bmdkit.registration.result import BodyResult, RegistrationResult
from bmdkit.registration.scene import Poses, Scene
from bmdkit.registration.search_stages import OnGeneration, refine_bodies
from bmdkit.registration.settings import RegistrationConfig

MIRROR_WARNING = "the mirrored radiograph fits better: the image may be flipped"
PA_WARNING = "registered as a PA radiograph, the source behind the patient: its camera has reversed columns"


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
    sizes. Further starts are tried while the match is poor. Where no start is given and the poses found in an AP view
    are not accepted, a PA view is searched once: the source behind the patient, and the image displayed as usual,
    which is a projection with reversed columns. Returns the best poses found; a poor one is marked, never raised.

    Args:
        bodies: Bones from `prepare_bodies`; the first is searched for, the others about it.
        radiograph: Image with its pixel spacing and source distance, unless `geometry` is given.
        geometry: Camera of the radiograph's full-resolution pixels.
        start: camera_from_ct to search from; an AP view of the hips if not given.
        config: Settings.
        rng: Generator of all random draws.
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.
        device: "cpu" or "cuda[:N]".

    Raises:
        ValueError: No bodies, or a distance of the geometry is not known.

    Source:
        Otake et al. 2012, doi 10.1109/TMI.2011.2176555; Grupp et al. 2020, doi 10.1007/s11548-020-02162-7.
    """
    if not bodies:
        raise ValueError("bodies: expected at least one, got none")
    began = time.process_time()
    trace = _Trace(on_generation)
    estimate = estimate_camera(radiograph, geometry or radiograph.geometry(), config or RegistrationConfig())
    coarse = _search_view(tuple(bodies), estimate, start, rng, trace.record, device)
    found = _complete_view(coarse, rng, trace.record)
    evaluations = found.evaluations
    may_be_pa = start is None and estimate.config.check_mirror and not estimate.camera.reversed_columns
    if may_be_pa and any(body.verdict != "accept" for body in found.bodies.values()):
        camera, once = replace(estimate.camera, reversed_columns=True), replace(estimate.config, restarts=0)
        turned = replace(estimate, camera=camera, config=once)
        record = add_tag(trace.record, " from behind")
        behind = _search_view(tuple(bodies), turned, None, rng, record, device)
        evaluations += behind.evaluations
        if behind.best.similarity > coarse.best.similarity:
            found = _complete_view(behind, rng, record)
            evaluations += found.evaluations - behind.evaluations
    return RegistrationResult(
        camera=found.ending.camera,
        sources=_name_sources(estimate),
        bodies=found.bodies,
        start=found.coarse.start,
        evaluations=int(evaluations),
        seconds=time.process_time() - began,
        traces={stage: tuple(costs) for stage, costs in trace.costs.items()},
        warnings=_collect_warnings(found),
        angles=_measure_angles(bodies, found.ending.poses),
        marker=estimate.marker,
    )


class _Trace:
    """The best cost after every generation, by stage; passed on to the caller's function."""

    def __init__(self, on_generation: Callable[[str, int, float], None] | None) -> None:
        self.costs: dict[str, list[float]] = {}
        self._on_generation = on_generation

    def record(self, stage: str, number: int, cost: float) -> None:
        """Keep one cost."""
        self.costs.setdefault(stage, []).append(float(cost))
        if self._on_generation:
            self._on_generation(stage, number, cost)


@dataclass(frozen=True, eq=False)
class _Scenes:
    """A radiograph and the bones, at the two levels of the search."""

    coarse: Scene
    fine: Scene


@dataclass(frozen=True, eq=False)
class _Ending:
    """Where the last refinement ended.

    Attributes:
        poses: camera_from_ct by body.
        refinement: The refinement itself.
        scenes: The scenes, as the refined camera sees them.
        camera: The refined camera, full-resolution pixels.
        evaluations: Poses rendered.
    """

    poses: Poses
    refinement: Refinement
    scenes: _Scenes
    camera: ProjectionGeometry
    evaluations: int


@dataclass(frozen=True, eq=False)
class _Searched:
    """Where the coarse search of one view ended.

    Attributes:
        estimate: Radiograph, and the camera of the view.
        scenes: The scenes that were searched.
        start: camera_from_ct that the search started from.
        best: The best attempt.
        evaluations: Poses rendered.
    """

    estimate: CameraEstimate
    scenes: _Scenes
    start: RigidTransform
    best: Attempt
    evaluations: int


@dataclass(frozen=True, eq=False)
class _Completed:
    """One view, searched, refined and judged.

    Attributes:
        coarse: Its coarse search.
        ending: Where its last refinement ended.
        bodies: Results of the bones by name.
        evaluations: Poses rendered for all of it.
    """

    coarse: _Searched
    ending: _Ending
    bodies: dict[str, BodyResult]
    evaluations: int


def _search_view(
    bodies: tuple[Body, ...],
    estimate: CameraEstimate,
    start: RigidTransform | None,
    rng: np.random.Generator,
    on_generation: OnGeneration,
    device: str,
) -> _Searched:
    """Search at the coarse level, from the view that the camera stands for if no start is given."""
    scenes = _prepare_scenes(bodies, estimate, device)
    start = start or make_default_start(bodies, estimate.camera, estimate.config)
    best, evaluations = search_coarsely(scenes.coarse, start, rng, on_generation)
    return _Searched(estimate, scenes, start, best, evaluations)


def _complete_view(coarse: _Searched, rng: np.random.Generator, on_generation: OnGeneration) -> _Completed:
    """Refine what a coarse search found, and judge it."""
    ending = _refine_finely(coarse.scenes, coarse.estimate, coarse.best.poses, on_generation)
    scenes, start = ending.scenes, coarse.start
    evidence, gathered = gather_evidence(scenes.coarse, scenes.fine, ending.poses, ending.refinement, start, rng)
    judged = _judge_bodies(scenes.fine, ending.poses, evidence, start)
    return _Completed(coarse, ending, judged, coarse.evaluations + ending.evaluations + gathered)


def _prepare_scenes(bodies: tuple[Body, ...], estimate: CameraEstimate, device: str) -> _Scenes:
    config, image, camera = estimate.config, estimate.radiograph, estimate.camera
    coarse = make_level(image, camera, config.coarse_pixel_mm, config)
    fine = make_level(image, camera, config.fine_pixel_mm, config, patch_mm=config.fine_patch_mm)
    return _Scenes(
        Scene(bodies, coarse, COARSE, config, device, estimate.hips),
        Scene(bodies, fine, FINE, config, device, estimate.hips),
    )


def _refine_finely(scenes: _Scenes, estimate: CameraEstimate, poses: Poses, on_generation: OnGeneration) -> _Ending:
    """Refine all bodies together at the fine level, and if it is uncertain the camera with them.

    The camera follows only now: far from the pose, a principal point takes up what the pose should.
    """
    fine, config, camera = scenes.fine, estimate.config, estimate.camera
    poses, refinement = refine_bodies(fine, poses, on_generation=on_generation, stage="joint fine")
    evaluations = refinement.evaluations
    if not estimate.intrinsics_sd:
        return _Ending(poses, refinement, scenes, camera, evaluations)
    _, near = refine_bodies(
        fine, poses, intrinsics_sd=estimate.intrinsics_sd, on_generation=on_generation, stage="joint camera"
    )
    level = make_level(estimate.radiograph, camera, config.camera_pixel_mm, config, patch_mm=config.fine_patch_mm)
    poses, refinement = refine_bodies(
        replace(fine, level=level),
        poses,
        intrinsics_sd=estimate.intrinsics_sd,
        start=near.values,
        iterations=config.camera_iterations,
        on_generation=on_generation,
        stage="joint camera finest",
    )
    moved = refinement.values[6 * len(fine.bodies) :]
    scenes = _Scenes(scenes.coarse.with_intrinsics(moved), fine.with_intrinsics(moved))
    evaluations += near.evaluations + refinement.evaluations
    return _Ending(poses, refinement, scenes, adjust_camera(camera, moved), evaluations)


def _name_sources(estimate: CameraEstimate) -> dict[str, str]:
    """Where each number of the camera came from, once it is refined."""
    sources = dict(estimate.sources)
    if estimate.intrinsics_sd and estimate.config.camera.principal_point_mm > 0:
        sources["principal_point_uv"] = "registration"
    if len(estimate.intrinsics_sd) > 2:
        sources["sdd_mm"] += ", refined by registration"
    return sources


def _judge_bodies(
    fine: Scene, poses: Poses, evidence: dict[str, Evidence], start: RigidTransform
) -> dict[str, BodyResult]:
    at_start = fine.similarities({body.name: start for body in fine.bodies})
    return {
        name: BodyResult(pose, at_start[name], judge(evidence[name], fine.config.verdict), evidence[name])
        for name, pose in poses.items()
    }


def _collect_warnings(found: _Completed) -> tuple[str, ...]:
    estimate, ending = found.coarse.estimate, found.ending
    fine = ending.scenes.fine
    depth = float(ending.poses[fine.bodies[0].name].apply(fine.hip_mm)[2])
    told = [*estimate.warnings, check_depth(estimate, ending.camera, depth)]
    told += [MIRROR_WARNING] if any(body.evidence.mirrored for body in found.bodies.values()) else []
    told += [PA_WARNING] if ending.camera.reversed_columns else []
    return tuple(text for text in told if text)


def _measure_angles(bodies: Sequence[Body], poses: Poses) -> dict[str, dict[str, HipAngles]]:
    """Hip joint angles by side, in the CT and in the radiograph; none without a pelvis."""
    pelvis = bodies[0]
    found: dict[str, dict[str, HipAngles]] = {}
    for body in bodies[1:] if pelvis.name == "pelvis" else ():
        side = body.side
        turn = find_femur_turn(poses[pelvis.name], poses[body.name])
        found[side] = {
            "ct": measure_hip_angles(pelvis.axes, body.axes, side),
            "radiograph": measure_hip_angles(pelvis.axes, body.axes, side, turn),
        }
    return found
