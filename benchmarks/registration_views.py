"""Hips from other sides: several views of one moment, oblique and lateral ones with a given start, bones half outside.

    python benchmarks/registration_views.py --cohort DIR [--cohort DIR ...] [--tasks ...] [--json FILE]

A cohort is one that view_cohort.py has made of another. The tasks:

    pairs    turned_0 and turned_30 together, their cameras known: from the standard view, and from given starts
    turned   each turned view alone, from given starts: 3 degrees, 2 mm, 8 mm, or 8, 6, 25 off (standard deviations)
    outside  a bone a fifth of which lies outside of the image: from the standard view, and from given starts

A given start comes with its uncertainty, as `--init` with `--init-sd`. Prints success rates, errors, and how the
verdicts sorted them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pydicom
from figure_files import write_figures, write_rows
from registration import Patient, patients, read_rows, region_error
from registration_real import NARROW, WIDE, draw_start, name_start

from bmdkit.config import load
from bmdkit.core.calibrated_camera import CalibratedCamera
from bmdkit.core.geometry import RigidTransform
from bmdkit.evaluation.registration_error import pose_error, true_camera
from bmdkit.image_content.polarity import Polarity
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.registration.bodies import Body, prepare_bodies
from bmdkit.registration.register_bodies import register_views
from bmdkit.registration.settings import RegistrationConfig, StartSpread
from bmdkit.registration.staging import Shown

TASKS = ("pairs", "turned", "outside")
PAIR = ("turned_0", "turned_30")
NEAR_MM, FAR_MM = 2.0, 10.0
USUAL = "standard"
POLARITIES: dict[str, Polarity] = {"MONOCHROME1": "bone_dark", "MONOCHROME2": "bone_bright"}
"""What the tags say, which are right in these cohorts: the reader's own test knows frontal views of hips only."""
FACTS = (
    "similarity",
    "spread_mm",
    "curvature_mm",
    "prior",
    "visible",
    "probability_over_2mm",
    "probability_over_10mm",
)
"""Evidence that is kept with each pose, so that verdicts can be judged again without another run."""


@dataclass(frozen=True)
class Row:
    """One bone in one registration, judged in one of its radiographs."""

    patient: str
    task: str
    view: str
    start: str
    body: str
    mtre_mm: float
    in_plane_mm: float
    depth_mm: float
    projection_mm: float
    rotation_deg: float
    region_error_pct: float
    seconds: float
    verdict: str
    similarity: float
    spread_mm: float
    curvature_mm: float
    prior: float
    visible: float
    probability_over_2mm: float
    probability_over_10mm: float

    @property
    def kind(self) -> str:
        """Pelvis or femur."""
        return self.body.split("_")[0]


def show(patient: Patient, xrays: dict[str, Path], view: str, *, is_calibrated: bool) -> Shown:
    """One radiograph, its camera and place known where it is one of several."""
    record = patient.truth["radiographs"]
    tag = pydicom.dcmread(xrays[view], stop_before_pixels=True).PhotometricInterpretation
    image = read_radiograph(xrays[view], config=XrayConfig(polarity=POLARITIES[tag]))
    if not is_calibrated:
        return Shown(image, name=view)
    place = RigidTransform(np.array(record[view]["ct_to_camera"]["pelvis"]))
    return Shown(image, CalibratedCamera(true_camera(record[view]["camera"]), place), None, view)


def list_tasks(
    patient: Patient, args: argparse.Namespace
) -> Iterator[tuple[str, tuple[str, ...], list[StartSpread | None]]]:
    """Task, the names of its radiographs, and the starts."""
    turned = [(f"turned_{degrees:g}",) for degrees in args.degrees]
    tasks = {"pairs": [PAIR], "turned": turned, "outside": [("outside",)]}
    for task in args.tasks:
        for views in tasks[task]:
            if all(view in patient.truth["radiographs"] for view in views):
                yield task, views, [NARROW, WIDE] if task == "turned" else [None, WIDE]


def measure_patient(args: argparse.Namespace, patient: Patient, config: RegistrationConfig) -> Iterator[Row]:
    """All registrations of one patient."""
    bodies = prepare_bodies(patient.density, patient.labels, patient.heads, config)
    folder = patient.folder.parents[1] / "xray"
    xrays = {view: folder / f"{patient.folder.name}_{view}.dcm" for view in patient.truth["radiographs"]}
    for task, views, starts in list_tasks(patient, args):
        shown = [show(patient, xrays, view, is_calibrated=len(views) > 1) for view in views]
        for spread in starts:
            yield from measure_run(args, patient, bodies, task, shown, spread, config)


def measure_run(
    args: argparse.Namespace,
    patient: Patient,
    bodies: Sequence[Body],
    task: str,
    shown: Sequence[Shown],
    spread: StartSpread | None,
    config: RegistrationConfig,
) -> Iterator[Row]:
    """One registration: a row for every bone in each of its radiographs."""
    views = [each.name for each in shown]
    start_name = USUAL if spread is None else name_start(spread)
    rng = np.random.default_rng([args.seed, *map(ord, "".join([patient.name, *views, start_name]))])
    truths = [patient.truth["radiographs"][view] for view in views]
    start = None
    if spread is not None:
        start = draw_start(RigidTransform(np.array(truths[0]["ct_to_camera"]["pelvis"])), bodies[0], spread, rng)
    began = time.process_time()
    results = register_views(bodies, shown, start=start, start_spread=spread, config=config, rng=rng)
    seconds = time.process_time() - began
    for view, truth, result in zip(views, truths, results, strict=True):
        camera = true_camera(truth["camera"])
        for body in bodies:
            found, true = result.bodies[body.name], RigidTransform(np.array(truth["ct_to_camera"][body.name]))
            pose = found.camera_from_ct
            error = pose_error(pose, true, patient.points[body.name], found_camera=result.camera, true_camera=camera)
            density = np.nan
            if body.name.startswith("femur") and task == "pairs":
                density = region_error(patient, body.name[-1], pose, true, camera, result.camera)
            facts = {name: float(getattr(found.evidence, name)) for name in FACTS}
            yield Row(
                patient.name, task, view, start_name, body.name, **asdict(error), region_error_pct=density,
                seconds=seconds, verdict=found.verdict, **facts,
            )  # fmt: skip
    print(f"  {patient.name} {'+'.join(views)} {start_name}: {seconds:.1f} s", file=sys.stderr, flush=True)


_COLUMNS = {"mTRE": "mtre_mm", "plane": "in_plane_mm", "depth": "depth_mm", "rot.": "rotation_deg", "s": "seconds"}


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """Print a table by task, view, start and bone, and how the verdicts sorted the poses; returns the numbers, flat."""
    flat: dict[str, float] = {}
    heads = " ".join(f"{name:>6s}" for name in (*_COLUMNS, "dep95", "PF95"))
    print(f"{'task':8s} {'view':10s} {'start':9s} {'bone':7s} {'n':>4s} {'<2mm %':>7s} {heads}  accept, >10 accepted")
    for key in dict.fromkeys((row.task, row.view, row.start, row.kind) for row in rows):
        part = [row for row in rows if (row.task, row.view, row.start, row.kind) == key]
        values = {
            "n": float(len(part)),
            "below_2mm_pct": 100 * float(np.mean([row.mtre_mm < NEAR_MM for row in part])),
            **{f"{name}_median": float(np.median([getattr(row, name) for row in part])) for name in _COLUMNS.values()},
            "depth_mm_p95": float(np.percentile([row.depth_mm for row in part], 95)),
        }
        density = [row.region_error_pct for row in part if np.isfinite(row.region_error_pct)]
        if density:
            values["pf_p95_pct"] = float(np.percentile(density, 95))
            values["pf_median_pct"] = float(np.median(density))
        accepted = [row for row in part if row.verdict == "accept"]
        right = [row for row in part if row.mtre_mm < NEAR_MM]
        values |= {
            "accepted": float(len(accepted)),
            "accepted_of_below_2mm_pct": 100 * sum(r.verdict == "accept" for r in right) / max(len(right), 1),
            "accepted_over_2mm": float(sum(row.mtre_mm > NEAR_MM for row in accepted)),
            "accepted_over_10mm": float(sum(row.mtre_mm > FAR_MM for row in accepted)),
            "over_10mm": float(sum(row.mtre_mm > FAR_MM for row in part)),
        }
        flat |= {".".join([*key, name]): value for name, value in values.items()}
        told = " ".join(f"{values[f'{name}_median']:6.2f}" for name in _COLUMNS.values())
        print(
            f"{key[0]:8s} {key[1]:10s} {key[2]:9s} {key[3]:7s} {len(part):4d} {values['below_2mm_pct']:7.1f} {told} "
            f"{values['depth_mm_p95']:6.2f} {values.get('pf_p95_pct', np.nan):6.2f}  {len(accepted)}, "
            f"{values['accepted_over_10mm']:.0f} of {values['over_10mm']:.0f}"
        )
    flat["patients"] = float(len({row.patient for row in rows}))
    return flat


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, action="append", default=[], help="folder with truth/ (repeatable)")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--degrees", nargs="+", type=float, default=[30.0, 90.0], help="turned views, task `turned`")
    parser.add_argument("--patients", type=int, help="at most, of each cohort")
    parser.add_argument("--set", action="append", default=[], help="a setting of the registration: KEY.PATH=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    parser.add_argument("--rows", type=Path, help="write one line per bone as CSV")
    parser.add_argument("--rows-from", type=Path, nargs="+", help="measure nothing: tables of these, written by --rows")
    args = parser.parse_args()
    config, rows = load(RegistrationConfig, overrides=args.set), []
    for cohort in args.cohort if not args.rows_from else ():
        for patient in patients(cohort, args.patients):
            rows += list(measure_patient(args, patient, config))
            if args.rows:
                write_rows(args.rows, Row, rows)
    for path in args.rows_from or ():
        rows += [Row(**{"region_error_pct": np.nan, **row}) for row in read_rows(path)]
    if not rows:
        parser.error("give --cohort or --rows-from")
    flat = summarise(rows)
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
