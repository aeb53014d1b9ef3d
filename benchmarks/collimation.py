"""How well the field of a collimator is found, and what blades cost a registration: overlap, what is kept, poses.

    python benchmarks/collimation.py [COHORT ...] [--patients N] [--registered N] [--seed S] [--n-jobs N] [--json FILE]

A COHORT, of any simulator, holds xray/<patient>_<pose>.dcm and truth/<patient>/field_<pose>.npy, the packed bits of
what its collimator leaves open; without such a file there is none. Each of the N simulated patients stands in two
poses. Every exposure is shown without a collimator and, by the same processing, behind one of every shape; all are
read whole, from DICOM files. The radiographs of the first `--registered` patients are registered too, without a
collimator and behind one; their true density and labels stand for the CT.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from figure_files import write_figures

from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import Volume
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.io.xray import read_radiograph
from bmdkit.jobs.local_pool import run_in_pool
from bmdkit.registration.bodies import Body, prepare_bodies
from bmdkit.registration.register_bodies import register_bodies
from bmdkit.simulation.collimator import FieldKind, collimate, draw_field
from bmdkit.simulation.dicom import write_radiograph
from bmdkit.simulation.procedural_anatomy import draw_anatomy
from bmdkit.simulation.radiography import Exposed, mineral_channels, present, take_radiograph
from bmdkit.simulation.tissue import fill_tissue

STREAM = 7303
"""First word of every seed here, so that no patient is drawn for anything else."""
PIXEL_MM = 0.5
KINDS: tuple[FieldKind, ...] = ("blades", "turned", "round", "polygon")
POSES = (("standing", "abduction"), ("supine", "adduction"))
LARGE_MM = 10.0
CLOSE_MM = 2.0


@dataclass(frozen=True)
class MaskRow:
    """One radiograph: the collimator's kind ("none": there is none), IoU of mask and truth, share of the field kept."""

    kind: str
    overlap: float
    kept: float


@dataclass(frozen=True)
class PoseRow:
    """One bone of one radiograph: with blades or without, error of its pose, verdict."""

    kind: str
    body: str
    error_mm: float
    verdict: str


Measured = tuple[str, list[MaskRow], list[PoseRow]]


def compare_masks(kind: str, mask: np.ndarray, field: np.ndarray) -> MaskRow:
    """Compare what was found to be image with what the collimator leaves open."""
    both = float((mask & field).sum())
    return MaskRow(kind, both / max(float((mask | field).sum()), 1.0), both / max(float(field.sum()), 1.0))


def show_exposure(exposed: Exposed, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Kind, stored image and true field of one exposure without a collimator and behind one of each kind."""
    processing = rng.integers(2**32)
    everything = np.ones(exposed.signal.shape, bool)
    yield "none", present(exposed.signal, PIXEL_MM, np.random.default_rng(processing)), everything
    for kind in KINDS:
        drawn = draw_field(exposed.signal.shape, PIXEL_MM, rng, kind)
        signal = collimate(exposed.signal, drawn, PIXEL_MM, rng)
        shown = present(signal, PIXEL_MM, np.random.default_rng(processing), field=drawn.is_open)
        yield kind, shown, drawn.is_open


def read_stored(image: np.ndarray, exposed: Exposed, folder: Path, is_inverted: bool) -> Radiograph:
    """Store one image as a DICOM file, and read it as a user's."""
    path = folder / "x.dcm"
    write_radiograph(path, image, exposed, "p", inverted=is_inverted, origin="collimation")
    return read_radiograph(path)


def register_shown(
    bodies: tuple[Body, ...], kind: str, radiograph: Radiograph, exposed: Exposed, rng: np.random.Generator
) -> Iterator[PoseRow]:
    """Register one radiograph from the default start, and measure every bone's error."""
    found = register_bodies(bodies, radiograph, rng=rng)
    for body in bodies:
        result, true = found.bodies[body.name], exposed.camera_from_ct[body.name]
        cameras = {"found_camera": found.camera, "true_camera": exposed.geometry}
        error = pose_error(result.camera_from_ct, true, body.points_mm, **cameras)
        yield PoseRow(kind, body.name, error.mtre_mm, result.verdict)


def measure_patient(seed: int, number: int, is_registered: bool) -> Measured:
    """Masks of all radiographs of a simulated patient, and poses of those that are registered."""
    rng = np.random.default_rng([STREAM, seed, number])
    anatomy = draw_anatomy(rng, grid_mm=1.5 if is_registered else 2.5)
    tissue = fill_tissue(anatomy, rng)
    mineral = mineral_channels(tissue)
    bodies: tuple[Body, ...] = ()
    if is_registered:
        density = Volume(tissue.density(), anatomy.grid, "density_mg_cm3")
        bodies = prepare_bodies(density, anatomy.labels(), anatomy.landmarks)
    masks, poses = [], []
    with tempfile.TemporaryDirectory() as folder:
        for place, pose in enumerate(POSES[number % 2]):
            exposed = take_radiograph(anatomy, tissue, mineral, pose, PIXEL_MM, rng)
            chosen = KINDS[(2 * number + place) % len(KINDS)]
            for kind, image, field in show_exposure(exposed, rng):
                radiograph = read_stored(image, exposed, Path(folder), bool(rng.random() < 0.3))
                masks.append(compare_masks(kind, radiograph.mask, field))
                if is_registered and kind in ("none", chosen):
                    own = np.random.default_rng([STREAM, seed, number, place])
                    shown = replace(exposed, field=field)
                    name = "without" if kind == "none" else "behind blades"
                    poses += list(register_shown(bodies, name, radiograph, shown, own))
    return f"simulated {number}", masks, poses


def list_files(folder: Path) -> list[tuple[Path, Path]]:
    """The radiographs of a cohort, and the files that tell their fields."""
    return [
        (xray, patient / f"field_{xray.stem.removeprefix(patient.name + '_')}.npy")
        for patient in sorted((folder / "truth").iterdir())
        for xray in sorted((folder / "xray").glob(f"{patient.name}_*.dcm"))
    ]


def measure_file(xray: Path, field: Path) -> Measured:
    """The mask of one radiograph of a cohort."""
    mask = read_radiograph(xray).mask
    true = np.ones(mask.shape, bool)
    if field.exists():
        true = np.unpackbits(np.load(field))[: mask.size].reshape(mask.shape).astype(bool)
    kind = "cohort, none" if true.all() else "cohort, blades"
    return f"{xray.parents[1].name}/{xray.stem}", [compare_masks(kind, mask, true)], []


def summarise(masks: list[MaskRow], poses: list[PoseRow]) -> dict[str, float]:
    """Figures of every kind, of all blades together, and of the poses."""
    groups: dict[str, list[MaskRow]] = defaultdict(list)
    for row in masks:
        groups[row.kind].append(row)
        if row.kind in KINDS:
            groups["all simulated blades"].append(row)
    found: dict[str, float] = {}
    for kind, rows in sorted(groups.items()):
        overlap, kept = np.array([r.overlap for r in rows]), np.array([r.kept for r in rows])
        found |= {f"{kind}: radiographs": float(len(rows)), f"{kind}: least share kept": float(kept.min())}
        if not kind.endswith("none"):
            found[f"{kind}: IoU, median"] = float(np.median(overlap))
            found[f"{kind}: IoU, 5th percentile"] = float(np.percentile(overlap, 5))
    for kind in sorted({row.kind for row in poses}):
        for bone in ("pelvis", "femur"):
            mine = [row for row in poses if row.kind == kind and row.body.startswith(bone)]
            errors = np.array([row.error_mm for row in mine])
            accepted = np.array([row.verdict == "accept" for row in mine])
            name = f"registration {kind}, {bone}"
            found[f"{name}: poses"] = float(len(mine))
            found[f"{name}: within {CLOSE_MM:g} mm, percent"] = float(100 * (errors < CLOSE_MM).mean())
            found[f"{name}: median error, mm"] = float(np.median(errors))
            found[f"{name}: accepted, percent"] = float(100 * accepted.mean())
            found[f"{name}: accepted over {LARGE_MM:g} mm"] = float((accepted & (errors > LARGE_MM)).sum())
    return found


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="COHORT")
    parser.add_argument("--patients", type=int, default=30)
    parser.add_argument("--registered", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files = [pair for folder in options.folders for pair in list_files(folder)]
    patients = [(options.seed, number, number < options.registered) for number in range(options.patients)]
    masks: list[MaskRow] = []
    poses: list[PoseRow] = []
    for measure, jobs in ((measure_file, files), (measure_patient, patients)):
        for name, shown, registered in run_in_pool(measure, jobs, options.n_jobs):
            masks += shown
            poses += registered
            told = " ".join(f"{row.kind} {row.overlap:.3f} kept {row.kept:.3f};" for row in shown)
            print(name, told, *(f"[{p.kind} {p.body} {p.error_mm:.2f} mm {p.verdict}]" for p in registered), flush=True)
    figures = summarise(masks, poses)
    for name, value in figures.items():
        print(f"{name:72s} {value:10.4g}")
    if options.json:
        folders = [folder.name for folder in options.folders]
        settings = {name: getattr(options, name) for name in ("seed", "patients", "registered")}
        write_figures(options.json, figures, "cpu", folders=folders, **settings)


if __name__ == "__main__":
    main()
