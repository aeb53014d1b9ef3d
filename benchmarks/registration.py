"""Registration accuracy on simulated cohorts with known truth: bmdkit beside its peers, in one run.

    python benchmarks/registration.py --cohort DIR [--cohort DIR ...] [--methods bmdkit xreg ...] [--json FILE]

A cohort has the layout of `bmdkit simulate`: cohort.csv and truth/<patient>/truth.json. Prints success rates with
bootstrap intervals (patients drawn, not images), errors, cost, and how bmdkit's verdicts sort good from bad.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from figure_files import write_figures
from registration_methods import METHODS, Outcome, Task
from registration_tables import BIN_MM, summarise
from scipy import ndimage

from bmdkit.calibration.modes import calibrate
from bmdkit.config import load
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.drr.targets import cut_region, project_region
from bmdkit.evaluation.registration_error import PoseError, pose_error, target_points, true_camera
from bmdkit.io.cohort import read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.label_maps import read_labels
from bmdkit.io.markups import read_landmarks
from bmdkit.io.results import read_csv
from bmdkit.io.volumes import read_array
from bmdkit.io.xray import read_radiograph
from bmdkit.registration.bodies import Body, prepare_bodies
from bmdkit.registration.initialisation import make_default_start
from bmdkit.registration.pose_parameters import UNIT, PoseParameters
from bmdkit.registration.settings import RegistrationConfig

_DENSITY_PIXEL_MM = 0.25
"""Pixel, at the detector, at which the density of a pose is measured."""


@dataclass(frozen=True, eq=False)
class Patient:
    """One CT of a cohort, prepared, and its truth."""

    name: str
    density: Volume
    labels: LabelMap
    truth: dict
    folder: Path
    points: dict[str, np.ndarray]
    xrays: tuple[Path, ...]
    heads: dict


def patients(cohort: Path, limit: int | None) -> Iterator[Patient]:
    """Read the patients of one cohort, one at a time."""
    for case in read_cohort(cohort).cases[:limit]:
        folder = cohort / "truth" / case.patient_id
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        hu = read_ct(case.ct).volume
        centres = np.array([truth["head_centre_lps"][side] for side in sorted(truth["head_centre_lps"])])
        points = target_points(folder / "labels.nii.gz", truth["labels"], centres)
        heads = {s: read_landmarks(case.landmarks_of(s), s) for s in case.sides if case.landmarks_of(s)}
        labels = read_labels(case.labels or folder / "labels.nii.gz")
        yield Patient(
            f"{cohort.name}/{case.patient_id}",
            calibrate(hu).apply(hu),
            labels,
            truth,
            folder,
            points,
            case.xrays,
            heads,
        )


def altered(labels: LabelMap, how: str) -> LabelMap:
    """Labels as they are, or every structure shrunk or grown by a voxel."""
    if how == "exact":
        return labels
    array = labels.array.copy()
    if how == "eroded":
        for value in labels.values.values():
            mask = labels.array == value
            array[mask & ~ndimage.binary_erosion(mask)] = 0
    else:
        for value in labels.values.values():
            array[ndimage.binary_dilation(labels.array == value) & (array == 0)] = value
    return LabelMap(array, labels.grid, labels.values)


def view_of(patient: Patient, xray: Path) -> dict:
    """The truth of one radiograph."""
    pose = max((p for p in patient.truth["radiographs"] if xray.stem.endswith(p)), key=len)
    return patient.truth["radiographs"][pose]


def starts(
    kind: str, default: RigidTransform, true: RigidTransform, body: Body, rng
) -> list[tuple[str, RigidTransform]]:
    """The DICOM default; a random one about it; or one per bin of initial error."""
    parameters = PoseParameters(default, body.centre_mm)
    if kind == "dicom":
        return [("dicom", default)]
    if kind == "random":
        reach = np.concatenate([np.radians([10, 10, 10]), [20, 20, 50]]) / UNIT
        return [("random", parameters.pose(rng.uniform(-1, 1, 6) * reach))]
    about = PoseParameters(true, body.centre_mm)
    found = []
    for low in np.arange(0, 140, BIN_MM):
        wanted, direction = rng.uniform(low, low + BIN_MM), rng.normal(size=6) * (1, 1, 1, 2, 2, 1)
        short, far = 0.0, 50.0
        for _ in range(40):
            middle = (short + far) / 2
            moved = about.pose(direction * middle)
            error = np.linalg.norm(moved.apply(body.points_mm) - true.apply(body.points_mm), axis=1).mean()
            short, far = (middle, far) if error < wanted else (short, middle)
        found.append((f"capture {low:g}", about.pose(direction * short)))
    return found


def region_error(patient: Patient, side: str, found: RigidTransform, true: RigidTransform, camera, seen) -> float:
    """Relative error, %, that the pose puts on the mean areal density of the proximal femur.

    At `_DENSITY_PIXEL_MM`: at 1 mm the mean of one pose changes by 0.2 % with where the pixels fall.
    """
    file = patient.folder / f"proximal_femur_{side}.nii.gz"
    if not file.exists():
        return np.nan
    mask, grid, _ = read_array(file)
    region = cut_region(patient.density, mask > 0, grid, "proximal_femur")
    means = []
    for pose, own in zip((found, true), (seen, camera), strict=True):
        factor = own.column_spacing_mm / _DENSITY_PIXEL_MM
        geometry = own.resized(round(own.rows * factor), round(own.columns * factor))
        image = project_region(region, pose, geometry)
        means.append(float(image[image > 0].mean()))
    return 100 * abs(means[0] / means[1] - 1)


def run(args: argparse.Namespace) -> list[dict]:
    """Every method on every radiograph, start and label; one row per bone."""
    rows, config = [], load(RegistrationConfig, overrides=args.set)
    for place, cohort in enumerate(args.cohort):
        for patient in patients(cohort, args.patients):
            for how in args.labels:
                bodies = prepare_bodies(patient.density, altered(patient.labels, how), patient.heads, config)
                for number, xray in enumerate(patient.xrays[: args.radiographs]):
                    image = read_radiograph(xray)
                    wrong_by = args.sdd_off * (-1) ** number / 100
                    image = replace(image, sdd_mm=image.sdd_mm * (1 + wrong_by))
                    image = add_noise(image, args.noise, args.seed, xray)
                    name = f"{how}, {args.note}" if args.note else how
                    about = {"cohort": cohort.name, "patient": patient.name, "labels": name}
                    rows += [about | row for row in one_radiograph(args, patient, bodies, xray, image, config)]
        rows += wrong(args, cohort, args.cohort[(place + 1) % len(args.cohort)], config)
    return rows


def add_noise(image: Radiograph, size: float, seed: int, xray: Path) -> Radiograph:
    """The radiograph of a lower dose: white noise of so many times its own standard deviation on every pixel."""
    if not size:
        return image
    rng = np.random.default_rng([seed, *map(ord, xray.stem)])
    drawn = rng.standard_normal(image.pixels.shape, dtype=np.float32)
    spread = float(image.pixels[image.mask].std())
    return replace(image, pixels=image.pixels + size * spread * drawn)


def wrong(args: argparse.Namespace, cohort: Path, other: Path, config: RegistrationConfig) -> Iterator[dict]:
    """Radiographs that do not belong to the CT: mirrored, or of the first patient of another cohort.

    There is no true pose, so whatever is found is off by any distance; only the verdict counts.
    """
    stranger = next(patients(other, 1)) if "patient" in args.wrong else None
    for patient in patients(cohort, args.patients) if args.wrong else ():
        for kind in args.wrong:
            whose = stranger if kind == "patient" else patient
            bodies = prepare_bodies(whose.density, whose.labels, whose.heads, config)
            for xray in patient.xrays[: args.radiographs]:
                image = add_noise(read_radiograph(xray), args.noise, args.seed, xray)
                if kind == "mirrored":
                    image = replace(image, pixels=image.pixels[:, ::-1].copy(), mask=image.mask[:, ::-1].copy())
                start = make_default_start(bodies, image.geometry(), config)
                rng = np.random.default_rng([args.seed, *(ord(c) for c in patient.name + xray.stem + kind)])
                task = Task(bodies, image, image.geometry(), start, rng, config, args.device, is_usual=True)
                outcome = METHODS["bmdkit"](task)
                for body in bodies:
                    yield {
                        "cohort": cohort.name, "patient": patient.name, "labels": f"wrong: {kind}", "xray": xray.stem,
                        "start": "dicom", "method": "bmdkit", "body": body.name,
                        **{f.name: np.inf for f in fields(PoseError)},
                        "seconds": outcome.seconds, "evaluations": outcome.evaluations,
                        "verdict": outcome.verdicts[body.name], **outcome.facts[body.name],
                    }  # fmt: skip
                progress(patient, xray, f"wrong {kind}", "bmdkit", outcome)


def one_radiograph(args, patient: Patient, bodies, xray: Path, image: Radiograph, config) -> Iterator[dict]:
    """Rows of one radiograph."""
    view, seen = view_of(patient, xray), image.geometry()
    camera = true_camera(view["camera"])
    truth = {body.name: RigidTransform(np.array(view["ct_to_camera"][body.name])) for body in bodies}
    default = make_default_start(bodies, seen, config)
    off_centre = float(np.linalg.norm(camera.principal_point_uv - seen.principal_point_uv) * seen.column_spacing_mm)
    for kind in args.starts:
        seeds = [args.seed, *(ord(c) for c in patient.name + xray.stem + kind)]
        for label, start in starts(kind, default, truth[bodies[0].name], bodies[0], np.random.default_rng(seeds)):
            for method in args.methods:
                rng = np.random.default_rng([*seeds, 1])
                task = Task(bodies, image, seen, start, rng, config, args.device, is_usual=kind == "dicom")
                outcome = METHODS[method](task)
                used = outcome.camera or seen
                for body in bodies:
                    pose, true = outcome.poses[body.name], truth[body.name]
                    error = pose_error(pose, true, patient.points[body.name], found_camera=used, true_camera=camera)
                    density = np.nan
                    if body.name.startswith("femur") and kind != "capture":
                        density = region_error(patient, body.name[-1], pose, true, camera, used)
                    yield {
                        "xray": xray.stem, "start": label, "method": method, "body": body.name, **asdict(error),
                        "region_error_pct": density, "sdd_off_pct": 100 * (seen.sdd_mm / camera.sdd_mm - 1),
                        "off_centre_mm": off_centre,
                        "evaluations": outcome.evaluations, "seconds": outcome.seconds,
                        "verdict": outcome.verdicts.get(body.name, ""), **outcome.facts.get(body.name, {}),
                    }  # fmt: skip
                progress(patient, xray, label, method, outcome)


def progress(patient: Patient, xray: Path, start: str, method: str, outcome: Outcome) -> None:
    """Print the time of one registration."""
    print(f"  {patient.name} {xray.stem} {start} {method}: {outcome.seconds:.1f} s", file=sys.stderr, flush=True)


def read_rows(path: Path) -> Iterator[dict]:
    """Rows that --rows wrote; what looks like a number is one, and what is empty was not there."""
    for read in read_csv(path):
        row: dict[str, str | float] = {key: value for key, value in read.items() if value != ""}
        for key, value in row.items():
            try:
                row[key] = float(value)
            except ValueError:
                continue
        yield row


def read_cohort_settings(folders: Sequence[Path]) -> dict[str, Any]:
    """How the cohorts were made, where their settings.json says so."""
    settings = {folder.name: folder / "settings.json" for folder in folders}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in settings.items() if path.exists()}


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, action="append", default=[], help="folder with truth/ (repeatable)")
    parser.add_argument("--deepfluoro", type=Path, help="HDF5 file of the DeepFluoro data")
    parser.add_argument("--methods", nargs="+", default=["bmdkit"], choices=list(METHODS))
    parser.add_argument("--starts", nargs="+", default=["dicom"], choices=["dicom", "random", "capture"])
    parser.add_argument("--labels", nargs="+", default=["exact"], choices=["exact", "eroded", "dilated"])
    parser.add_argument(
        "--wrong",
        nargs="+",
        default=[],
        choices=["patient", "mirrored"],
        help="registrations that have to be refused, too",
    )
    parser.add_argument(
        "--sdd-off",
        type=float,
        default=0.0,
        metavar="PCT",
        help="take the source distance wrongly, in turn up and down",
    )
    parser.add_argument("--noise", type=float, default=0.0, help="add noise of so many SD of the radiograph")
    parser.add_argument("--patients", type=int, help="at most, of each cohort")
    parser.add_argument("--radiographs", type=int, help="at most, of each patient")
    parser.add_argument("--set", action="append", default=[], help="a setting of the registration: KEY.PATH=VALUE")
    parser.add_argument("--note", help="what else --set makes of it: stands behind the labels in rows and tables")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    parser.add_argument("--rows", type=Path, help="write one line per bone as CSV")
    parser.add_argument("--rows-from", type=Path, nargs="+", help="measure nothing: tables of these, written by --rows")
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    rows = [row for path in args.rows_from for row in read_rows(path)] if args.rows_from else run(args)
    if args.deepfluoro:
        from registration_deepfluoro import run_deepfluoro

        rows += run_deepfluoro(args)
    if not rows:
        parser.error("give --cohort or --deepfluoro")
    if args.rows:
        with args.rows.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(dict.fromkeys(k for r in rows for k in r)))
            writer.writeheader()
            writer.writerows(rows)
    flat = summarise(rows)
    if args.json:
        write_figures(args.json, flat, args.device, cohorts=read_cohort_settings(args.cohort))


if __name__ == "__main__":
    main()
