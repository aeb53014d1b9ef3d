"""A simulated cohort whose radiographs show each patient from several sides in one moment, for registration_views.py.

    python benchmarks/view_cohort.py OUT [--patients N] [--anatomy MAP] [--degrees 0 30 90] [--blades] [--seed N]

To a cohort of `bmdkit simulate` are added, of every patient: views turned about his long axis, all of one moment, each
by a camera of its own (`turned_0`, `turned_30`, ...), exposed until as much reaches the detector as in the frontal
one; and a frontal view of another moment in which a fifth of a bone
lies outside of the image (`outside`): beside it a fifth of one femur, or above it one of the pelvis, in turn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.pose import standard_view
from bmdkit.io.results import write_json
from bmdkit.simulation.collimator import collimate, draw_field
from bmdkit.simulation.dicom import write_radiograph
from bmdkit.simulation.exposure import ExposureSettings, expose
from bmdkit.simulation.patient import draw_patient, locate_truth_file
from bmdkit.simulation.presentation import present
from bmdkit.simulation.radiography import (
    Exposed,
    areal_densities,
    draw_geometry,
    draw_poses,
    mineral_channels,
    soft_channels,
)
from bmdkit.simulation.settings import SimulateConfig
from bmdkit.simulation.simulated_cohort import find_anatomies, list_patients, simulate_cohort

TO_DETECTOR_MM, OUTSIDE = (110.0, 190.0), 0.2
_WATER_CM2_G, _THICK_PCT = 0.19, 90
"""Attenuation of water at 65 keV, and where in an image the patient is as thick as the exposure is made for."""

_STREAM = 7101  # of random numbers, apart from those of the cohort


def turn_about(focus_mm: np.ndarray, degrees: float, geometry: ProjectionGeometry, depth_mm: float) -> RigidTransform:
    """camera_from_ct of a view turned about the patient's long axis, `focus_mm` on its central ray."""
    turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    frontal = standard_view("ap", focus_mm, geometry, object_to_detector_mm=depth_mm)
    return frontal @ RigidTransform.about(focus_mm, turn)


def move_outside(
    poses: Mapping[str, RigidTransform], points_mm: np.ndarray, body: str, geometry: ProjectionGeometry
) -> dict[str, RigidTransform]:
    """The poses, all moved in plane until a fifth of one body's points (n, 3) lies beside the image or above it."""
    axis = 1 if body == "pelvis" else 0
    seen = poses[body].apply(points_mm)
    low = -geometry.principal_point_uv[axis] * geometry.pixel_step_mm[axis] / geometry.sdd_mm
    high = (geometry.shape[1 - axis] - 1) * geometry.pixel_step_mm[axis] / geometry.sdd_mm + low
    move = np.zeros(3)
    if axis == 1 or body == "femur_R":  # what lies above the image or to its left
        move[axis] = -float(np.quantile(seen[:, axis] - low * seen[:, 2], OUTSIDE))
    else:
        move[axis] = -float(np.quantile(seen[:, axis] - high * seen[:, 2], 1 - OUTSIDE))
    away = RigidTransform.from_parts(np.eye(3), move)
    return {name: away @ pose for name, pose in poses.items()}


def add_radiographs(out: Path, config: SimulateConfig, number: int, args: argparse.Namespace) -> None:
    """Add the views of one patient that is already there."""
    name = list_patients(config)[number]
    file = locate_truth_file(out, name)
    record = json.loads(file.read_text(encoding="utf-8"))
    wanted = [f"turned_{degrees:g}" for degrees in args.degrees] + ["outside"]
    if all(view in record["radiographs"] for view in wanted):
        return
    drawn = draw_patient(find_anatomies(config), config, args.seed, number, np.random.default_rng([args.seed, number]))
    mineral = mineral_channels(drawn.anatomy, drawn.tissue)
    focus = np.add(drawn.anatomy.hip_centre(), (0, 0, 10.0))
    moment: dict[str, RigidTransform] = {}
    usual_g_cm2 = None
    for place, (degrees, view) in enumerate(zip([*args.degrees, None], wanted, strict=True)):
        rng = np.random.default_rng([_STREAM, args.seed, number, place])
        geometry = draw_geometry(rng, config.pixel_mm)
        if degrees is None:
            body = ("femur_L", "pelvis", "femur_R", "pelvis")[number % 4]
            labels = drawn.anatomy.labels()
            points = labels.grid.points(np.argwhere(labels.mask(body)))
            poses = move_outside(draw_poses(drawn.anatomy, "standing", geometry, rng), points, body, geometry)
        else:
            depth = rng.uniform(*TO_DETECTOR_MM)
            if not moment:
                frontal = standard_view("ap", focus, geometry, object_to_detector_mm=depth)
                found = draw_poses(drawn.anatomy, "supine", geometry, rng)
                moment = {body: frontal.inverse() @ pose for body, pose in found.items()}
            turned = turn_about(focus, degrees, geometry, depth)
            poses = {body: turned @ pose for body, pose in moment.items()}
        soft, bones = areal_densities(soft_channels(drawn.anatomy, drawn.tissue, rng), mineral, poses, geometry)
        thick = float(np.percentile(soft, _THICK_PCT))
        usual_g_cm2 = thick if usual_g_cm2 is None else usual_g_cm2
        more = float(np.exp(_WATER_CM2_G * (thick - usual_g_cm2)))
        shown = write_view(out, name, view, soft, bones, poses, geometry, more, rng, args)
        record["radiographs"][view] = shown
    write_json(file, record)


def write_view(
    out: Path,
    name: str,
    view: str,
    soft: np.ndarray,
    bones: Mapping[str, np.ndarray],
    poses: Mapping[str, RigidTransform],
    geometry: ProjectionGeometry,
    more: float,
    rng: np.random.Generator,
    args: argparse.Namespace,
) -> dict:
    """Expose, `more` than usual, and write one radiograph; returns its truth."""
    pixel = geometry.column_spacing_mm
    settings = ExposureSettings(
        kvp=float(rng.choice([70, 80, 90])),
        scatter_to_primary=float(rng.uniform(0.15, 0.4)),
        photons=more * float(10 ** rng.uniform(5.2, 6.0)),
    )
    signal = expose(soft, np.sum(list(bones.values()), axis=0), pixel, settings, rng)
    exposed = Exposed(signal, poses, geometry, settings.kvp)
    if args.blades:
        field = draw_field(signal.shape, pixel, rng)
        exposed = replace(exposed, signal=collimate(signal, field, pixel, rng), field=field.is_open)
    image = present(exposed.signal, pixel, rng, field=exposed.field)
    origin = f"view_cohort {args.seed} {name} {view}"
    path = out / "xray" / f"{name}_{view}.dcm"
    write_radiograph(path, image, exposed, name, inverted=bool(rng.random() < 0.3), origin=origin)
    point = geometry.principal_point_uv
    return {
        "camera": {
            "sdd": geometry.sdd_mm, "pixel": pixel, "rows": geometry.rows, "cols": geometry.columns,
            "ppx": float(point[0]), "ppy": float(point[1]),
        },
        "ct_to_camera": {body: pose.matrix.tolist() for body, pose in poses.items()},
        "kvp": settings.kvp,
    }  # fmt: skip


def main() -> None:
    """Read the arguments and write the cohort."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--anatomy", type=Path, help="label map in place of the built-in hip")
    parser.add_argument("--degrees", type=float, nargs="+", default=[0.0, 30.0, 90.0], help="the first is frontal")
    parser.add_argument("--blades", action="store_true", help="soft collimator blades in every added radiograph")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = SimulateConfig(patients=args.patients, poses=("standing",), anatomy=args.anatomy)
    simulate_cohort(args.out, config, seed=args.seed)
    for number in range(config.patients):
        add_radiographs(args.out, config, number, args)
        print(f"{list_patients(config)[number]} done", flush=True)


if __name__ == "__main__":
    main()
