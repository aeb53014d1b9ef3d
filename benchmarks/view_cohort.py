"""Further radiographs of a simulated cohort: the same moment from other sides, and bones that lie partly outside.

    python benchmarks/view_cohort.py COHORT OUT [--base standing] [--patients N] [--degrees 30 90] [--blades] [--seed N]

COHORT has the layout of `bmdkit simulate`. OUT refers to its files and adds, of every patient: views of the moment of
the base radiograph, turned about his long axis, each by a camera of its own (`turned_30`, ...), exposed until as much
reaches the detector as in a frontal one; and a frontal view in which a fifth of a bone lies outside of the image
(`outside`): beside it a fifth of one femur, or above it one of the pelvis, in turn. They are made of the true density
of the bones and of the CT's soft tissue, by the package's own renderer; registration_views.py measures with them. The
base radiograph itself stays as the cohort's simulator made it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume, keep_largest_component
from bmdkit.drr.channels import Channels, prepare_channels
from bmdkit.evaluation.registration_error import true_camera
from bmdkit.io.cohort import read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.results import write_json
from bmdkit.io.volumes import read_array
from bmdkit.simulation.collimator import collimate, draw_field
from bmdkit.simulation.dicom import write_radiograph
from bmdkit.simulation.exposure import ExposureSettings, expose
from bmdkit.simulation.presentation import present
from bmdkit.simulation.radiography import Exposed, areal_densities, draw_geometry

TO_DETECTOR_MM, OUTSIDE, PIXEL_MM = (110.0, 190.0), 0.2, 0.5
_WATER_CM2_G, _THICK_PCT = 0.19, 90
"""Attenuation of water at 65 keV, and where in an image the patient is as thick as the exposure is made for."""

_BEYOND_MM, _SKIN_HU, _BONE_HU = 60.0, -300.0, 30.0


@dataclass(frozen=True, eq=False)
class Patient:
    """What the radiographs of one patient are made of.

    Attributes:
        mineral: Bone mineral of each body.
        soft: Soft tissue; all of it moves with the pelvis.
        points_mm: Points of each body.
        focus_mm: Middle of the hips.
        poses: camera_from_ct of each body in the base radiograph.
        frontal: Camera of that.
    """

    mineral: Mapping[str, Channels]
    soft: Mapping[str, Channels]
    points_mm: Mapping[str, np.ndarray]
    focus_mm: np.ndarray
    poses: Mapping[str, RigidTransform]
    frontal: ProjectionGeometry


def read_patient(cohort: Path, ct: Path, name: str, base: str) -> tuple[Patient, dict]:
    """Read one patient, and his truth."""
    truth = cohort / "truth" / name
    record = json.loads((truth / "truth.json").read_text(encoding="utf-8"))
    labels, grid, _ = read_array(truth / "labels.nii.gz")
    density, _, _ = read_array(truth / "density.nii.gz")
    parts = {"pelvis": ("pelvis", "axial"), "femur_L": ("femur_L",), "femur_R": ("femur_R",)}
    mineral, points = {}, {}
    for body, structures in parts.items():
        mask = np.isin(labels, [record["labels"][each] for each in structures])
        part = Volume(np.where(mask, density, 0).astype(np.float32), grid, "density_mg_cm3")
        mineral[body] = prepare_channels(part, names=(body,))
        points[body] = grid.points(np.argwhere(labels == record["labels"][body]))
    view = record["radiographs"][base]
    poses = {body: RigidTransform(np.array(view["ct_to_camera"][body])) for body in parts}
    focus = np.mean(list(record["head_centre_lps"].values()), axis=0)
    soft = {"pelvis": prepare_channels(read_soft_tissue(ct, labels > 0, grid), names=("soft",))}
    return Patient(mineral, soft, points, focus, poses, true_camera(view["camera"])), record


def read_soft_tissue(ct: Path, bone: np.ndarray, grid: Grid) -> Volume:
    """Water, mg/cm3, without bone, phantom and couch; its first and last slice repeated beyond the scan."""
    hu = read_ct(ct).volume.resample(grid, fill=-1000.0).array
    body = keep_largest_component(ndimage.binary_opening(hu > _SKIN_HU, iterations=2))
    body = ndimage.binary_dilation(body, iterations=2)
    wide = ndimage.binary_dilation(bone, iterations=1)
    water = np.where(wide, 1000 + _BONE_HU, np.where(body, np.clip(1000 + hu, 0, 1100), 0)).astype(np.float32)
    count = int(np.ceil(_BEYOND_MM / grid.spacing_mm[2]))
    water = np.pad(water, ((count, count), (0, 0), (0, 0)), mode="edge")[:, ::2, ::2]  # soft tissue is smooth
    spacing = grid.spacing_mm * [2, 2, 1]
    return Volume(water, Grid(water.shape, spacing, grid.points((-count, 0, 0)), grid.direction), "density_mg_cm3")


def turn_poses(
    patient: Patient, degrees: float, geometry: ProjectionGeometry, to_detector_mm: float
) -> dict[str, RigidTransform]:
    """The poses of the same moment, from another side: the middle of the hips on the central ray."""
    middle = patient.poses["pelvis"].apply(patient.focus_mm)
    turn = Rotation.from_euler("y", degrees, degrees=True).as_matrix()  # rows of a frontal view run down the patient
    there = np.array([0.0, 0.0, geometry.sdd_mm - to_detector_mm])
    other_from_first = RigidTransform.from_parts(turn, there - turn @ middle)
    return {body: other_from_first @ pose for body, pose in patient.poses.items()}


def move_outside(patient: Patient, body: str, geometry: ProjectionGeometry) -> dict[str, RigidTransform]:
    """The poses, all moved in plane until a fifth of one body's points lies beside the image or above it."""
    axis = 1 if body == "pelvis" else 0
    seen = patient.poses[body].apply(patient.points_mm[body])
    step, point = geometry.pixel_step_mm[axis] / geometry.sdd_mm, geometry.principal_point_uv[axis]
    low, high = -point * step, (geometry.shape[1 - axis] - 1 - point) * step
    move = np.zeros(3)
    if body == "femur_L":  # on the right of the image
        move[axis] = -float(np.quantile(seen[:, axis] - high * seen[:, 2], 1 - OUTSIDE))
    else:
        move[axis] = -float(np.quantile(seen[:, axis] - low * seen[:, 2], OUTSIDE))
    away = RigidTransform.from_parts(np.eye(3), move)
    return {name: away @ pose for name, pose in patient.poses.items()}


def add_radiographs(args: argparse.Namespace, ct: Path, name: str, number: int) -> None:
    """Add the radiographs of one patient, unless they are there."""
    truth, out = args.cohort / "truth" / name, args.out / "truth" / name
    if (out / "truth.json").exists():
        return
    patient, record = read_patient(args.cohort, ct, name, args.base)
    record["radiographs"] = {"turned_0": record["radiographs"][args.base]}
    refer(args.cohort / "xray" / f"{name}_{args.base}.dcm", args.out / "xray" / f"{name}_turned_0.dcm")
    usual, _ = areal_densities(patient.soft, patient.mineral, patient.poses, patient.frontal)
    for place, degrees in enumerate([*args.degrees, None]):
        rng = np.random.default_rng([args.seed, number, place])
        geometry = draw_geometry(rng, PIXEL_MM)
        if degrees is None:
            view = "outside"
            poses = move_outside(patient, ("femur_L", "pelvis", "femur_R", "pelvis")[number % 4], geometry)
        else:
            view = f"turned_{degrees:g}"
            poses = turn_poses(patient, degrees, geometry, rng.uniform(*TO_DETECTOR_MM))
        soft, bones = areal_densities(patient.soft, patient.mineral, poses, geometry)
        more = float(np.exp(_WATER_CM2_G * (np.percentile(soft, _THICK_PCT) - np.percentile(usual, _THICK_PCT))))
        image = soft, np.sum(list(bones.values()), axis=0)
        record["radiographs"][view] = write_view(args, name, view, image, poses, geometry, more, rng)
    for file in truth.iterdir():
        if file.suffix == ".gz":
            refer(file, out / file.name)
    write_json(out / "truth.json", record)


def write_view(
    args: argparse.Namespace,
    name: str,
    view: str,
    image: tuple[np.ndarray, np.ndarray],
    poses: Mapping[str, RigidTransform],
    geometry: ProjectionGeometry,
    more: float,
    rng: np.random.Generator,
) -> dict:
    """Expose `image` (water and bone, g/cm2), `more` than a frontal view, and write it; returns its truth."""
    pixel = geometry.column_spacing_mm
    settings = ExposureSettings(
        kvp=float(rng.choice([70, 80, 90])),
        scatter_to_primary=float(rng.uniform(0.15, 0.4)),
        photons=more * float(10 ** rng.uniform(5.2, 6.0)),
    )
    signal = expose(*image, pixel, settings, rng)
    exposed = Exposed(signal, poses, geometry, settings.kvp)
    if args.blades:
        field = draw_field(signal.shape, pixel, rng)
        exposed = replace(exposed, signal=collimate(signal, field, pixel, rng), field=field.is_open)
    stored = present(exposed.signal, pixel, rng, field=exposed.field)
    path = args.out / "xray" / f"{name}_{view}.dcm"
    origin = f"view_cohort {args.seed} {name} {view}"
    write_radiograph(path, stored, exposed, name, inverted=bool(rng.random() < 0.3), origin=origin)
    point = geometry.principal_point_uv
    return {
        "camera": {
            "sdd": geometry.sdd_mm, "pixel": pixel, "rows": geometry.rows, "cols": geometry.columns,
            "ppx": float(point[0]), "ppy": float(point[1]),
        },
        "ct_to_camera": {body: pose.matrix.tolist() for body, pose in poses.items()},
        "kvp": settings.kvp,
    }  # fmt: skip


def refer(file: Path, link: Path) -> None:
    """A link to a file of the cohort."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(file.resolve())


def main() -> None:
    """Read the arguments and write the cohort."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", default="standing", help="radiograph whose moment is shown from other sides")
    parser.add_argument("--patients", type=int, help="at most")
    parser.add_argument("--degrees", type=float, nargs="+", default=[30.0, 90.0])
    parser.add_argument("--blades", action="store_true", help="soft collimator blades in every added radiograph")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for number, case in enumerate(read_cohort(args.cohort).cases[: args.patients]):
        add_radiographs(args, case.ct, case.patient_id, number)
        print(f"{case.patient_id} done", flush=True)
    for part in ("ct", "labels", "landmarks", "cohort.csv"):
        refer(args.cohort / part, args.out / part)
    for file in (args.cohort / "xray").iterdir():
        refer(file, args.out / "xray" / file.name)


if __name__ == "__main__":
    main()
