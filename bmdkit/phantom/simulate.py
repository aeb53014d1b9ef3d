"""A cohort of digital patients in the layout of the public contract, and the truth about each."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from bmdkit import config as settings_module
from bmdkit.core.anatomy import LABEL_VALUES, STRUCTURES, Side
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.errors import PreflightError
from bmdkit.io.markups import write_landmarks
from bmdkit.io.results import write_csv, write_json
from bmdkit.io.volumes import write_labels, write_volume
from bmdkit.phantom.anatomy import Anatomy, draw_anatomy
from bmdkit.phantom.dicom import write_ct, write_radiograph
from bmdkit.phantom.radiography import Exposed, mineral_channels, present, take_radiograph
from bmdkit.phantom.scan import Scan, ScanSettings, scan_patient
from bmdkit.phantom.tissue import Tissue, fill_tissue
from bmdkit.regions.areal import areal_bmd
from bmdkit.regions.volumetric import proximal_femur, volumetric_bmd

COLUMNS = ("patient_id", "ct", "xray", "pose", "side", "landmarks", "labels", "dxa_bmd")
PoseName = Literal["standing", "supine", "abduction", "adduction"]
Given = Literal["labels", "landmarks"]
Stress = Literal["marker", "collimation", "offcentre", "implant"]
_DXA_ERROR = 0.018  # relative; the precision of DXA at the hip


@dataclass(frozen=True)
class SimulateConfig:
    """What to simulate.

    Attributes:
        patients: How many.
        poses: Radiographs of each patient.
        sides: Hips that become rows of the table.
        prefix: Of the patients' names.
        give: Expert input that the cohort holds.
        stress: What makes it harder: a lead marker, collimated borders, a central ray off the middle, a metal implant.
        slice_mm: CT slice thickness.
        pixel_mm: Of the radiographs, at the detector.
        prone: How the patients lie in the CT.
        full_size: CT slices of 512 x 512 instead of 256 x 256.
        grid_mm: Voxels of the anatomy.
        mineral: Factor of bone mineral for every patient; drawn if None.
        anatomy: A label map in place of the built-in anatomy.
        anatomy_labels: NAME=VALUE[,VALUE...] for a map without names.
        warp_mm: Random deformation of a label map.
    """

    patients: int = 4
    poses: tuple[PoseName, ...] = ("standing", "supine")
    sides: tuple[Side, ...] = ("L", "R")
    prefix: str = "sim"
    give: tuple[Given, ...] = ("labels", "landmarks")
    stress: tuple[Stress, ...] = ()
    slice_mm: float = 3.0
    pixel_mm: float = 0.5
    prone: bool = False
    full_size: bool = False
    grid_mm: float = 1.5
    mineral: float | None = None
    anatomy: Path | None = None
    anatomy_labels: tuple[str, ...] = ()
    warp_mm: float = 3.0

    def __post_init__(self) -> None:
        for name in ("slice_mm", "pixel_mm", "grid_mm"):
            if not 0.05 <= getattr(self, name) <= 20:
                raise ValueError(f"{name}: expected 0.05 to 20 mm, got {getattr(self, name)}")
        if not 1 <= self.patients <= 100_000:
            raise ValueError(f"patients: expected 1 to 100000, got {self.patients}")
        if not self.poses or not self.sides:
            raise ValueError("poses, sides: expected at least one of each")
        if self.mineral is not None and not 0 <= self.mineral <= 5:
            raise ValueError(f"mineral: expected 0 to 5, got {self.mineral}")


Progress = Callable[[int, int, str], None]
"""Called with the number of patients done, of all patients, and the name of the last one done."""


def simulate_cohort(
    out: Path,
    config: SimulateConfig,
    *,
    seed: int,
    n_jobs: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a cohort and its truth; patients that an earlier run with the same settings finished are kept.

    A patient depends on the settings, the seed and its number alone: not on how many there are or on the jobs.

    Args:
        out: The cohort's folder.
        config: What to simulate.
        seed: Of all randomness.
        n_jobs: Processes.
        overwrite: Replace a simulated cohort of other settings.

    Returns:
        The cohort's table.

    Raises:
        PreflightError: BMD-SIM-001, the folder holds something else; BMD-SIM-002 and -003, an unusable label map.
    """
    out = Path(out)
    stamp = {**settings_module.to_dict(config), "patients": None, "seed": seed}
    draw = _source_of_anatomies(config)
    _claim(out, json.loads(json.dumps(stamp)), overwrite)
    names = [f"{config.prefix}{number:03d}" for number in range(config.patients)]
    missing = [n for n, name in enumerate(names) if not _truth_file(out, name).exists()]
    done = len(names) - len(missing)
    for n in _worked_off(missing, out, names, draw, config, seed, n_jobs):
        done += 1
        if progress:
            progress(done, len(names), names[n])
    rows = [row for name in names for row in _rows(name, json.loads(_truth_file(out, name).read_text()), config)]
    write_csv(out / "cohort.csv", rows, COLUMNS)
    return out / "cohort.csv"


def _worked_off(missing: list[int], out: Path, names: list[str], draw, config, seed: int, n_jobs: int) -> Iterator[int]:
    """Simulate the missing patients; yields the number of each that is done."""
    if n_jobs == 1 or len(missing) < 2:
        for n in missing:
            yield _simulate_patient(out, names[n], n, draw, config, seed)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(n_jobs, len(missing)), mp_context=context, initializer=_one_thread) as pool:
        tasks = [pool.submit(_simulate_patient, out, names[n], n, draw, config, seed) for n in missing]
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    import numba

    numba.set_num_threads(1)


def _truth_file(out: Path, patient: str) -> Path:
    return out / "truth" / patient / "truth.json"


def _claim(out: Path, stamp: dict, overwrite: bool) -> None:
    """Make sure that the folder is ours to write: empty, or of a run with the same settings."""
    mark = out / "truth" / "simulate.json"
    if mark.exists():
        if json.loads(mark.read_text(encoding="utf-8")) == stamp:
            return
        if not overwrite:
            raise PreflightError("BMD-SIM-001", "it holds a cohort of other settings or another seed.", file=out)
        for name in ("truth", "ct", "xray", "labels", "landmarks"):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "cohort.csv").unlink(missing_ok=True)
    elif out.exists() and any(out.iterdir()):
        raise PreflightError("BMD-SIM-001", "it is not empty and holds no simulated cohort.", file=out)
    write_json(mark, stamp)


def _source_of_anatomies(config: SimulateConfig) -> Callable[[np.random.Generator], Anatomy]:
    if config.anatomy is None:
        return partial(draw_anatomy, grid_mm=config.grid_mm)
    from bmdkit.phantom.label_anatomy import draw_from_shapes, read_shapes

    shapes = read_shapes(config.anatomy, config.anatomy_labels, config.grid_mm)
    return partial(draw_from_shapes, shapes, warp_mm=config.warp_mm)


def _simulate_patient(out: Path, patient: str, number: int, draw, config: SimulateConfig, seed: int) -> int:
    """Write everything of one patient, its truth last; returns its number."""
    rng = np.random.default_rng([seed, number])
    origin = f"bmdkit simulate {seed} {number} {patient}"
    anatomy: Anatomy = draw(rng)
    tissue = fill_tissue(anatomy, rng, config.mineral)
    matrix = 512 if config.full_size else 256
    scan = scan_patient(
        anatomy,
        tissue,
        ScanSettings(config.slice_mm, matrix, prone=config.prone, implant="implant" in config.stress),
        rng,
    )
    write_ct(out / "ct" / patient, scan.hu, patient, prone=config.prone, origin=origin)
    labels = label_map(anatomy)
    truth = out / "truth" / patient
    write_labels(truth / "labels.nii.gz", labels)
    density = Volume(tissue.density(), anatomy.grid, "density_mg_cm3")
    write_volume(truth / "density.nii.gz", density)
    if "labels" in config.give:
        write_labels(out / "labels" / f"{patient}.nii.gz", labels)
    record = {
        "mineral_factor": tissue.mineral_factor,
        "calibration": {
            "hu_per_mg_cm3": scan.hu_per_mg_cm3,
            "hu_at_zero": scan.hu_at_zero,
            "rods_xy_mm": scan.rods_xy_mm,
        },
        "radiographs": {},
        "head_centre_lps": {side: anatomy.heads_mm[side].tolist() for side in ("L", "R")},
        "head_radius_mm": dict(anatomy.head_radii_mm),
        "labels": LABEL_VALUES,
        "proximal_femur": {side: _measure(truth, anatomy, labels, scan, density, side, rng) for side in config.sides},
    }
    if "landmarks" in config.give:
        for side in config.sides:
            write_landmarks(out / "landmarks" / f"{patient}_{side}.mrk.json", anatomy.landmarks[side])
    mineral = mineral_channels(anatomy, tissue)
    for pose in config.poses:
        record["radiographs"][pose] = _radiograph(out, patient, anatomy, tissue, mineral, pose, config, rng, origin)
    write_json(_truth_file(out, patient), record)
    return number


def label_map(anatomy: Anatomy) -> LabelMap:
    """The crisp labels of an anatomy, under the values that bmdkit writes."""
    array = np.zeros(anatomy.grid.shape, np.uint8)
    for name in STRUCTURES:
        array[anatomy.depths[name] > 0] = LABEL_VALUES[name]
    return LabelMap(array, anatomy.grid, LABEL_VALUES)


def _measure(truth: Path, anatomy: Anatomy, labels: LabelMap, scan: Scan, density: Volume, side: Side, rng) -> dict:
    """What a perfect tool would measure on the scan, the physical density, and a DXA device's reading of it."""
    marks = anatomy.landmarks[side]
    mask, femur = proximal_femur(labels, marks), labels.mask(f"femur_{side}")
    write_volume(truth / f"proximal_femur_{side}.nii.gz", Volume(mask.astype(np.uint8), labels.grid, "probability"))
    physical = areal_bmd(density, femur, marks, grid=labels.grid).abmd_g_cm2
    return {
        "qct_bmd_mg_cm3": volumetric_bmd(scan.reference, mask, labels.grid),
        "areal_bmd_g_cm2": float(areal_bmd(scan.reference, femur, marks, grid=labels.grid).abmd_g_cm2),
        "physical_bmd_mg_cm3": volumetric_bmd(density, mask, labels.grid),
        "physical_areal_bmd_g_cm2": float(physical),
        "dxa_bmd_g_cm2": float(physical * rng.normal(1, _DXA_ERROR)),
        "lesser_trochanter": anatomy.lesser_mm[side].tolist(),
        "landmarks_lps": {name: point.tolist() for name, point in marks.points_mm.items()},
    }


def _radiograph(out, patient, anatomy, tissue: Tissue, mineral, pose: str, config: SimulateConfig, rng, origin) -> dict:
    exposed: Exposed = take_radiograph(
        anatomy, tissue, mineral, pose, config.pixel_mm, rng, off_centre="offcentre" in config.stress
    )
    image = present(
        exposed.signal,
        config.pixel_mm,
        rng,
        marker="marker" in config.stress,
        collimation="collimation" in config.stress,
    )
    inverted = bool(rng.random() < 0.3)
    path = out / "xray" / f"{patient}_{pose}.dcm"
    write_radiograph(path, image, exposed, patient, inverted=inverted, origin=origin)
    geometry = exposed.geometry
    point = geometry.principal_point_uv
    return {
        "camera": {
            "sdd": geometry.sdd_mm,
            "pixel": geometry.column_spacing_mm,
            "rows": geometry.rows,
            "cols": geometry.columns,
            "ppx": float(point[0]),
            "ppy": float(point[1]),
            "focal_px": geometry.sdd_mm / geometry.column_spacing_mm,
        },
        "ct_to_camera": {body: pose.matrix.tolist() for body, pose in exposed.camera_from_ct.items()},
        "kvp": exposed.kvp,
    }


def _rows(patient: str, record: dict, config: SimulateConfig) -> list[dict]:
    return [
        {
            "patient_id": patient,
            "ct": f"ct/{patient}",
            "xray": f"xray/{patient}_{pose}.dcm",
            "pose": pose,
            "side": side,
            "landmarks": f"landmarks/{patient}_{side}.mrk.json" if "landmarks" in config.give else "",
            "labels": f"labels/{patient}.nii.gz" if "labels" in config.give else "",
            "dxa_bmd": round(record["proximal_femur"][side]["dxa_bmd_g_cm2"], 4),
        }
        for pose in config.poses
        for side in config.sides
    ]
