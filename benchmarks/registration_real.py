"""Registration of real radiographs: calibrated biplane images of single bones, or the public cadaver pelves.

    python benchmarks/registration_real.py --biplane DIR [--starts N] [--views one all] [--methods ...] [--json FILE]
    python benchmarks/registration_real.py --deepfluoro FILE [--patients N] [--json FILE]

Every bone of every frame is registered in each camera alone and in all together, from starts whose distance from the
truth is drawn: standard deviations of 3 degrees, 2 mm in plane and 8 mm in depth, and of 8 degrees, 6 mm and 25 mm.
Where less than a fifth of the single views end more than 10 mm off, wider starts follow, for the verdicts alone.
The truth is DIR/truth.json or `--truth FILE`: {"bones": {bone: {frame: {"camera_from_ct": {camera: 4x4}}}}}.
Nothing is fitted to these data. The sample's truth has limits of its own: 0.1 to 0.2 mm and 0.4 to 1.7 degrees, and
it was made with this package's renderer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from figure_files import write_figures, write_rows
from registration_biplane import Biplane, Shot, read_biplane, read_truth
from registration_methods import METHODS, Task
from registration_tables import auroc

from bmdkit.config import load
from bmdkit.core.geometry import RigidTransform
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.registration.bodies import Body
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.register_bodies import register_views
from bmdkit.registration.result import BodyResult
from bmdkit.registration.settings import RegistrationConfig, StartSpread
from bmdkit.registration.sizes import HIP_MAGNIFICATION, scale_config
from bmdkit.registration.staging import Shown

NARROW, WIDE = StartSpread(3.0, 2.0, 8.0), StartSpread(8.0, 6.0, 25.0)
LOST = StartSpread(25.0, 15.0, 60.0)
"""Starts from which many searches fail, so that verdicts have something to find."""

FACTS = (
    "similarity",
    "spread_mm",
    "across_mm",
    "spread_across_mm",
    "depth_sd_mm",
    "lead",
    "rotation_sd_deg",
    "spread_rotation_deg",
    "attainable",
)
"""Evidence that is kept with each registration, so that verdicts can be judged again without another run."""

VIEWS = ("one", "all")
FAR_MM, LEAST_FAR = 10.0, 0.2


@dataclass(frozen=True)
class Run:
    """Errors of one bone in one frame from one start, and what was said of it."""

    bone: str
    frame: str
    cameras: str
    method: str
    start: str
    number: int
    mtre_mm: float
    in_plane_mm: float
    depth_mm: float
    projection_mm: float
    rotation_deg: float
    seconds: float
    verdict: str
    probability_misleading: float
    probability_over_10mm: float
    place: str
    similarity: float = float("nan")
    spread_mm: float = float("nan")
    across_mm: float = float("nan")
    spread_across_mm: float = float("nan")
    depth_sd_mm: float = float("nan")
    lead: float = float("nan")
    rotation_sd_deg: float = float("nan")
    spread_rotation_deg: float = float("nan")
    attainable: float = float("nan")

    @property
    def is_wrong(self) -> bool:
        """Whether an accepted pose like this misleads: its depth is stated apart."""
        return self.in_plane_mm > 1.0 or self.rotation_deg > 5.0


def name_start(spread: StartSpread) -> str:
    """Name of a start in rows and tables."""
    return f"{spread.rotation_deg:g}/{spread.in_plane_mm:g}/{spread.depth_mm:g}"


def draw_start(true: RigidTransform, body: Body, spread: StartSpread, rng: np.random.Generator) -> RigidTransform:
    """A pose about the true one, as far as the spread says."""
    sizes = [np.radians(spread.rotation_deg)] * 3 + [spread.in_plane_mm] * 2 + [spread.depth_mm]
    return PoseParameters(true, body.centre_mm, np.ones(6)).pose(rng.standard_normal(6) * sizes)


def register_shots(
    body: Body, shots: Sequence[Shot], start: RigidTransform, spread: StartSpread, rng: np.random.Generator, args
) -> tuple[BodyResult, float]:
    """What was found in the first camera, and CPU seconds."""
    shown = [Shown(shot.radiograph, shot.camera, None, shot.camera_name) for shot in shots]
    began = time.process_time()
    result = register_views(
        [body], shown, start=start, start_spread=spread, config=args.config, rng=rng, device=args.device
    )[0].bodies[body.name]
    return result, time.process_time() - began


def run_one(
    args: argparse.Namespace, body: Body, shots: Sequence[Shot], true: RigidTransform, spread, number, method="bmdkit"
) -> Run:
    """One registration, held against the truth."""
    key = f"{body.name}{shots[0].frame}{shots[0].camera_name}{name_start(spread)}"
    rng = np.random.default_rng([args.seed, number, *map(ord, key)])
    start = draw_start(true, body, spread, rng)
    facts: dict[str, float] = {}
    if method == "bmdkit":
        found, seconds = register_shots(body, shots, start, spread, rng, args)
        pose, verdict = found.camera_from_ct, found.verdict
        misleading, far = found.evidence.probability_misleading, found.evidence.probability_over_10mm
        facts = {name: getattr(found.evidence, name) for name in FACTS}
    else:
        camera = shots[0].camera.geometry
        depth = float(start.apply(body.centre_mm)[2])
        config = scale_config(args.config, body.scale, camera.sdd_mm / depth if depth > 0 else HIP_MAGNIFICATION)
        outcome = METHODS[method](Task((body,), shots[0].radiograph, camera, start, rng, config, args.device))
        pose, verdict, seconds = outcome.poses[body.name], "", outcome.seconds
        misleading = far = float("nan")
    camera = shots[0].camera.geometry
    error = pose_error(pose, true, body.points_mm, found_camera=camera, true_camera=camera)
    names = "+".join(shot.camera_name for shot in shots)
    place = json.dumps(np.round(pose.apply(body.points_mm[::40]), 4).tolist())
    run = Run(
        body.name, shots[0].frame, names, method, name_start(spread), number, **asdict(error), seconds=seconds,
        verdict=verdict, probability_misleading=misleading, probability_over_10mm=far, place=place, **facts,
    )  # fmt: skip
    print(
        f"  {run.bone} {run.frame} {names} {method} {run.start}: projection {run.projection_mm:.2f} mm, "
        f"{run.rotation_deg:.2f} degrees, depth {run.depth_mm:.1f} mm, {verdict}, {seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )
    return run


def run_biplane(args: argparse.Namespace) -> list[Run]:
    """Every bone in each camera alone, in all together, and by the peers."""
    biplane = read_biplane(args.biplane)
    truth = read_truth(args.truth) if args.truth else biplane.truth
    if not truth:
        raise SystemExit(f"{args.biplane}: no truth.json; give --truth")
    runs = []
    tasks = list(list_tasks(biplane, truth, args.views))
    for number, spread in product(range(args.starts), (NARROW, WIDE)):
        for name, frame, body, shots in tasks:
            runs.append(run_one(args, body, shots, truth[name, frame, shots[0].camera_name], spread, number))
        if args.rows:
            write_rows(args.rows, Run, runs)
    for method in args.methods:
        if method != "bmdkit":
            runs += [
                run_one(args, body, shots, truth[name, frame, shots[0].camera_name], WIDE, 0, method)
                for name, frame, body, shots in list_tasks(biplane, truth)
                if len(shots) == 1
            ]
    single = [run for run in runs if run.method == "bmdkit" and "+" not in run.cameras]
    number = 0
    while single and args.lost and np.mean([run.mtre_mm > FAR_MM for run in single]) < LEAST_FAR and number < args.lost:
        more = [
            run_one(args, body, shots, truth[name, frame, shots[0].camera_name], LOST, number)
            for name, frame, body, shots in list_tasks(biplane, truth)
            if len(shots) == 1
        ]
        single, runs, number = single + more, runs + more, number + 1
    return runs


def list_tasks(
    biplane: Biplane, truth, views: Sequence[str] = VIEWS
) -> Iterator[tuple[str, str, Body, tuple[Shot, ...]]]:
    """Every bone and frame with a truth, in each camera and in all together, as far as these are wanted."""
    for name, body in biplane.bodies.items():
        for frame, shots in biplane.frames.items():
            if all((name, frame, shot.camera_name) in truth for shot in shots):
                if "one" in views:
                    yield from ((name, frame, body, (shot,)) for shot in shots)
                if "all" in views and len(shots) > 1:
                    yield name, frame, body, shots


def measure_repeatability(runs: Sequence[Run]) -> float:
    """Mean distance, mm, of a bone's points from their mean over the starts, the root mean square over bones."""
    found = []
    for key in dict.fromkeys((run.bone, run.frame) for run in runs):
        places = np.array([json.loads(run.place) for run in runs if (run.bone, run.frame) == key])
        if len(places) > 1:
            found.append(np.linalg.norm(places - np.median(places, axis=0), axis=-1).mean())
    return float(np.sqrt(np.mean(np.square(found)))) if found else float("nan")


def summarise(runs: Sequence[Run]) -> dict[str, float]:
    """Print the tables; returns the numbers, flat."""
    own = [run for run in runs if run.method == "bmdkit"]
    single = [run for run in own if "+" not in run.cameras]
    both = [run for run in own if "+" in run.cameras]
    flat: dict[str, float] = {}
    print(f"{'method':8s} {'views':6s} {'start':9s} {'n':>4s} {'proj<1':>7s} {'plane':>6s} {'rot.':>6s} {'depth':>6s}")
    for key in dict.fromkeys((r.method, "+" in r.cameras, r.start) for r in runs):
        part = [r for r in runs if (r.method, "+" in r.cameras, r.start) == key]
        right = [r for r in part if r.projection_mm < 1] or part
        below = 100 * float(np.mean([r.projection_mm < 1 for r in part]))
        middle = [float(np.median([getattr(r, n) for r in right])) for n in ("in_plane_mm", "rotation_deg", "depth_mm")]
        views = "all" if key[1] else "one"
        print(
            f"{key[0]:8s} {views:6s} {key[2]:9s} {len(part):4d} {below:7.1f} " + " ".join(f"{v:6.2f}" for v in middle)
        )
        flat[f"{key[0]}_{views}_{key[2]}_projection_below_1mm_pct"] = below
        flat[f"{key[0]}_{views}_{key[2]}_n"] = len(part)
    near = [r for r in single if r.start != name_start(LOST)]
    right = [r for r in near if r.projection_mm < 1]
    accepted = [r for r in single if r.verdict == "accept"]
    summary = {
        "single_projection_below_1mm_pct": 100 * len(right) / max(len(near), 1),
        "single_in_plane_mm_median": _median(right, "in_plane_mm"),
        "single_rotation_deg_median": _median(right, "rotation_deg"),
        "single_depth_mm_median": _median(right, "depth_mm"),
        "two_view_mtre_mm_median": _median(both, "mtre_mm"),
        "two_view_repeat_mm": measure_repeatability(both),
        "two_view_converged_pct": 100 * float(np.mean([r.mtre_mm < 1.0 for r in both])) if both else float("nan"),
        "auroc_over_10mm": auroc(
            np.array([r.probability_over_10mm for r in single]), np.array([r.mtre_mm > FAR_MM for r in single])
        ),
        "auroc_projection_over_1mm": auroc(
            np.array([r.probability_misleading for r in single]), np.array([r.projection_mm > 1 for r in single])
        ),
        "accepted": len(accepted),
        "accepted_wrong": sum(r.is_wrong for r in accepted),
        "accepted_over_5mm_in_plane": sum(r.in_plane_mm > 5 for r in accepted),
        "accepted_of_right_pct": 100 * float(np.mean([r.verdict == "accept" for r in right])) if right else 0.0,
        "core_seconds_per_body": float(np.mean([r.seconds for r in near])) if near else float("nan"),
        "core_seconds_per_body_two_views": float(np.mean([r.seconds for r in both])) if both else float("nan"),
    }
    told = ("two_view", "core_seconds_per_body_two") if not single else ("",)
    flat |= {name: value for name, value in summary.items() if name.startswith(told)}
    for verdict in ("accept", "review", "reject"):
        part = [r for r in single if r.verdict == verdict]
        print(f"{verdict}: {len(part)}, wrong {sum(r.is_wrong for r in part)}")
    for name, value in flat.items():
        print(f"{name}: {value:.4g}")
    return flat


def _median(runs: Sequence[Run], name: str) -> float:
    return float(np.median([getattr(run, name) for run in runs])) if runs else float("nan")


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--biplane", type=Path, help="folder of calibrated biplane radiographs")
    parser.add_argument("--truth", type=Path, help="known poses, instead of truth.json in the folder")
    parser.add_argument("--deepfluoro", type=Path, help="HDF5 file of the DeepFluoro data")
    parser.add_argument(
        "--views", nargs="+", default=list(VIEWS), choices=VIEWS, help="each camera alone, all together"
    )
    parser.add_argument("--starts", type=int, default=3, help="starts of each kind")
    parser.add_argument("--lost", type=int, default=3, help="rounds of wider starts at most, for the verdicts")
    parser.add_argument("--methods", nargs="+", default=["bmdkit"], choices=list(METHODS))
    parser.add_argument("--patients", type=int, help="at most, of the DeepFluoro data")
    parser.add_argument("--set", action="append", default=[], help="a setting of the registration: KEY.PATH=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    parser.add_argument("--rows", type=Path, help="write one line per registration as CSV")
    args = parser.parse_args()
    args.config = load(RegistrationConfig, overrides=args.set)
    if args.deepfluoro:
        from registration_deepfluoro import run_deepfluoro
        from registration_tables import summarise as summarise_bones

        flat = summarise_bones(run_deepfluoro(args))
    elif args.biplane:
        runs = run_biplane(args)
        if args.rows:
            write_rows(args.rows, Run, runs)
        flat = summarise(runs)
    else:
        parser.error("give --biplane or --deepfluoro")
    if args.json:
        write_figures(args.json, flat, args.device)


if __name__ == "__main__":
    main()
