"""Find the bones of one CT in one radiograph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration import stages
from bmdkit.registration.bodies import COARSE, FINE, Body
from bmdkit.registration.pyramid import make_level
from bmdkit.registration.result import BodyResult, RegistrationResult
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.starts import default_start
from bmdkit.registration.verdict import judge


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
    sizes. Returns the best poses found; a poor one is marked, never raised.

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
    camera = geometry or radiograph.geometry()
    start = start or default_start(bodies, camera, config)
    coarse = stages.Scene(
        bodies, make_level(radiograph, camera, config.coarse_pixel_mm, config), COARSE, config, device
    )
    fine = stages.Scene(bodies, make_level(radiograph, camera, config.fine_pixel_mm, config), FINE, config, device)
    traces: dict[str, list[float]] = {}

    def record(stage: str, number: int, cost: float) -> None:
        traces.setdefault(stage, []).append(float(cost))
        if on_generation:
            on_generation(stage, number, cost)

    pose, found = stages.search_anchor(coarse, start, rng, sigma=config.pelvis.sigma, on_generation=record)
    evaluations = found.evaluations
    poses = {body.name: pose for body in bodies}
    for body in bodies[1:]:
        poses[body.name], used = stages.search_femur(coarse, body.name, poses, rng, on_generation=record)
        evaluations += used
    poses, rough = stages.polish_all(coarse, poses, start, on_generation=record, stage="joint coarse")
    poses, final = stages.polish_all(fine, poses, start, on_generation=record, stage="joint fine")
    evaluations += rough.evaluations + final.evaluations
    spread, used = stages.scatter(coarse, poses, start, rng)
    evaluations += used
    at_start = fine.similarities({body.name: start for body in bodies})
    at_end = fine.similarities(poses)
    priors = fine.prior_distances(poses, start)
    results = {}
    for body in bodies:
        name = body.name
        evidence = {"similarity": at_end[name], "spread_mm": spread[name], "prior": priors[name]}
        results[name] = BodyResult(poses[name], at_end[name], at_start[name], spread[name], judge(evidence), evidence)
    return RegistrationResult(
        camera=camera,
        sources=dict(radiograph.sources),
        bodies=results,
        start=start,
        evaluations=int(evaluations),
        seconds=time.process_time() - began,
        traces={stage: tuple(values) for stage, values in traces.items()},
        warnings=tuple(radiograph.warnings),
    )
