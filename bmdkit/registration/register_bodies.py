"""Find the bones of one CT in the radiographs of one moment, one or several."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.radiograph import Radiograph
from bmdkit.regions.hip_angles import HipAngles, find_femur_turn, measure_hip_angles
from bmdkit.registration.bodies import Body
from bmdkit.registration.camera import CameraEstimate, check_depth
from bmdkit.registration.coarse_search import add_tag
from bmdkit.registration.result import RegistrationResult
from bmdkit.registration.scene import Poses
from bmdkit.registration.settings import RegistrationConfig, StartSpread
from bmdkit.registration.staging import Shown, Staging
from bmdkit.registration.view_search import Completed, Search

MIRROR_WARNING = "the mirrored radiograph fits better: the image may be flipped"
_HELD = 1e-3  # scaled standard deviation of a principal point that is taken as it is
PA_WARNING = "registered as a PA radiograph, the source behind the patient: its camera has reversed columns"


def register_bodies(
    bodies: Sequence[Body],
    radiograph: Radiograph,
    *,
    geometry: ProjectionGeometry | None = None,
    start: RigidTransform | None = None,
    start_spread: StartSpread | None = None,
    config: RegistrationConfig | None = None,
    rng: np.random.Generator,
    on_generation: Callable[[str, int, float], None] | None = None,
    device: str = "cpu",
) -> RegistrationResult:
    """Find the pose of every bone whose DRR best matches one radiograph; see `register_views`.

    Args:
        bodies: Bones from `prepare_bodies`; the first is searched for, the others about it.
        radiograph: Image with its pixel spacing and source distance, unless `geometry` is given.
        geometry: Camera of the radiograph's full-resolution pixels.
        start: camera_from_ct to search from; an AP view of the hips if not given.
        start_spread: How sure the start is; None where that is not known.
        config: Settings.
        rng: Generator of all random draws.
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.
        device: "cpu" or "cuda[:N]".

    Raises:
        ValueError: No bodies, or a distance of the geometry is not known.
    """
    shown = Shown(radiograph, radiograph.camera if geometry is None else None, geometry)
    results = register_views(
        bodies,
        [shown],
        start=start,
        start_spread=start_spread,
        config=config,
        rng=rng,
        on_generation=on_generation,
        device=device,
    )
    return results[0]


def register_views(
    bodies: Sequence[Body],
    shown: Sequence[Shown],
    *,
    start: RigidTransform | None = None,
    start_spread: StartSpread | None = None,
    config: RegistrationConfig | None = None,
    rng: np.random.Generator,
    on_generation: Callable[[str, int, float], None] | None = None,
    device: str = "cpu",
) -> tuple[RegistrationResult, ...]:
    """Find the pose of every bone whose DRRs best match all radiographs of one moment.

    The first bone first, the others riding along (pelvis and femurs); then each other about its joint; then all
    together, at two pixel sizes. Further starts are tried while the match is poor. Where no start is given and the
    poses found in an AP view are not accepted, a PA view is searched once: the source behind the patient, and the
    image displayed as usual, which is a projection with reversed columns. Returns the best poses found; a poor one is
    marked, never raised.

    Args:
        bodies: Bones, from `prepare_bodies` or `Body.from_mask`; the first is searched for, the others about it.
        shown: Radiographs; of several every camera has to be known with its place.
        start: camera_from_ct of the first radiograph to search from; an AP view of the hips if not given.
        start_spread: How sure the start is: it is then the prior. None where that is not known.
        config: Settings, of the size of hips; they are cut to the bodies.
        rng: Generator of all random draws.
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.
        device: "cpu" or "cuda[:N]".

    Returns:
        One result for each radiograph; they hold the same poses, each in its own camera.

    Raises:
        ValueError: No bodies or radiographs, a distance of a camera is not known, or the place of one of several.

    Source:
        Otake et al. 2012, doi 10.1109/TMI.2011.2176555; Grupp et al. 2020, doi 10.1007/s11548-020-02162-7.

    Example:
        >>> vertebra = Body.from_mask(density, labels.mask("vertebra_L4"), "vertebra_L4")  # doctest: +SKIP
        >>> shown = [Shown(front, front_camera), Shown(side, side_camera)]  # doctest: +SKIP
        >>> results = register_views([vertebra], shown, rng=np.random.default_rng(0))  # doctest: +SKIP
        >>> results[0].bodies["vertebra_L4"].camera_from_ct  # doctest: +SKIP
    """
    if not bodies:
        raise ValueError("bodies: expected at least one, got none")
    if not shown:
        raise ValueError("shown: expected at least one radiograph, got none")
    began = time.process_time()
    trace = _Trace(on_generation)
    known = config or RegistrationConfig()
    staging = Staging.of(tuple(bodies), shown, start, known, device, start_spread)
    search = Search(start, start_spread, rng)
    coarse = search.run(staging, trace.record)
    found = search.complete(coarse, trace.record)
    evaluations = found.evaluations
    may_be_pa = start is None and known.check_mirror and staging.may_be_turned
    if may_be_pa and any(body.verdict != "accept" for body in found.bodies[0].values()):
        record = add_tag(trace.record, " from behind")
        behind = search.run(staging.turned(), record)
        evaluations += behind.evaluations
        if behind.best.similarity > coarse.best.similarity:
            found = search.complete(behind, record)
            evaluations += found.evaluations - behind.evaluations
    seconds = time.process_time() - began
    ending = found.ending
    return tuple(
        RegistrationResult(
            camera=ending.cameras[k],
            sources=_name_sources(estimate, is_alone=len(shown) == 1),
            bodies=found.bodies[k],
            start=RigidTransform(ending.fine.views[k].place(found.coarse.start.matrix[None])[0]),
            evaluations=int(evaluations),
            seconds=seconds,
            traces={stage: tuple(costs) for stage, costs in trace.costs.items()},
            warnings=_collect_warnings(estimate, found),
            angles=_measure_angles(bodies, ending.poses),
            marker=estimate.marker,
            views=tuple(each.name for each in shown) if len(shown) > 1 else (),
        )
        for k, estimate in enumerate(staging.estimates)
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


def _name_sources(estimate: CameraEstimate, *, is_alone: bool) -> dict[str, str]:
    """Where each number of the camera came from, once it is refined; of several radiographs none is."""
    sources = dict(estimate.sources)
    if not is_alone:
        return sources
    if estimate.intrinsics_sd and estimate.intrinsics_sd[0] > _HELD:
        sources["principal_point_uv"] = "registration"
    if len(estimate.intrinsics_sd) > 2:
        sources["sdd_mm"] += ", refined by registration"
    return sources


def _collect_warnings(estimate: CameraEstimate, found: Completed) -> tuple[str, ...]:
    ending = found.ending
    fine, camera = ending.fine, ending.cameras[0]
    depth = float(ending.poses[fine.bodies[0].name].apply(fine.hip_mm)[2])
    told = [*estimate.warnings, check_depth(estimate, camera, depth)]
    told += [MIRROR_WARNING] if any(body.evidence.mirrored for body in found.bodies[0].values()) else []
    told += [PA_WARNING] if camera.reversed_columns else []
    return tuple(text for text in told if text)


def _measure_angles(bodies: Sequence[Body], poses: Poses) -> dict[str, dict[str, HipAngles]]:
    """Hip joint angles by side, in the CT and in the radiograph; none without a pelvis."""
    pelvis = bodies[0]
    found: dict[str, dict[str, HipAngles]] = {}
    for body in bodies[1:] if pelvis.axes is not None else ():
        if body.axes is None:
            continue
        side = next(iter(body.joints_mm))
        turn = find_femur_turn(poses[pelvis.name], poses[body.name])
        found[side] = {
            "ct": measure_hip_angles(pelvis.axes, body.axes, side),
            "radiograph": measure_hip_angles(pelvis.axes, body.axes, side, turn),
        }
    return found
