"""Datasets A and B straight from digital patients: true poses and densities, no CT and no registration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.anatomy import Side
from bmdkit.core.radiograph import Radiograph, TubeSettings
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.assemble import CITATION, KIND, count_pairs, list_units, withdraw
from bmdkit.dataset.case_meta import CaseMeta, find_damage, hash_data, read_meta, write_meta
from bmdkit.dataset.commit import hash_outputs, publish
from bmdkit.dataset.ct_stage import Hip
from bmdkit.dataset.integrity import list_data_files, write_sums
from bmdkit.dataset.layout import (
    CASES,
    DESCRIPTION,
    LAYERS,
    PAIR_FOLDERS,
    REPORT,
    STAGING,
    layers_file,
    pair_folder,
)
from bmdkit.dataset.manifest import ManifestRow, PairRow, write_manifest
from bmdkit.dataset.names import pair_id
from bmdkit.dataset.radiograph_stage import HipView, Regions, Registered, make_pairs
from bmdkit.dataset.settings import BuildConfig, TargetQuantity
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig
from bmdkit.dataset.splits import assign_folds
from bmdkit.drr.channels import Channels
from bmdkit.errors import PreflightError
from bmdkit.image_content.image_area import find_image_area
from bmdkit.io.images import write_tiff
from bmdkit.io.results import sha256_of, write_json
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.jobs.local_pool import run_in_pool
from bmdkit.jobs.lock import LOCK_FILE, hold, require_free
from bmdkit.regions.hip_angles import find_femur_turn, find_pelvis_frame, find_shaft_axis, measure_hip_angles
from bmdkit.regions.volumetric import proximal_femur
from bmdkit.simulation.patient import DigitalPatient, draw_patient, make_radiograph_generator
from bmdkit.simulation.radiography import Exposed, mineral_channels, take_stored
from bmdkit.simulation.scan import compute_tissue_hu, draw_line
from bmdkit.simulation.settings import PoseName
from bmdkit.simulation.simulated_cohort import Progress, find_anatomies

SETTINGS = "simulate.json"

_NO_IMAGE = {"marker", "collimation", "blades"}
"""Difficulties that leave pixels which are no image."""


@dataclass(frozen=True, eq=False)
class _Known:
    """What is projected of a measured CT, known without one; see `radiograph_stage.ProjectedCt`."""

    labels: LabelMap
    projected: Volume
    hips: Mapping[Side, Hip]


def simulate_pairs(
    out: Path,
    config: SimulatePairsConfig,
    *,
    seed: int,
    n_jobs: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[ManifestRow, ...]:
    """Write a dataset of simulated pairs; patients that an earlier run with the same settings finished are kept.

    A patient depends on the settings, the seed and its number alone: not on how many there are or on the jobs.

    Args:
        out: Folder of the dataset.
        config: Settings of the pairs.
        seed: Seed of all random draws, and of the folds.
        n_jobs: Number of processes.
        overwrite: Whether simulated pairs of other settings are replaced.
        progress: Function that is called before the first patient and after each, with the patients done, all patients,
            and the name of the last one done, "" before the first.

    Returns:
        The rows of the manifest.

    Raises:
        PreflightError: BMD-SIM-001, the folder holds something else; BMD-SIM-002 and -003, an unusable label map.
        LockedError: Another run writes to it.
    """
    out = Path(out)
    stamp = _check(out, config, seed, overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    with hold(out):
        _clear(out, stamp)
        plan = config.plan()
        missing = [n for n, name in enumerate(plan) if not _is_whole(out, name)]
        withdraw(out)
        names = list(plan)
        done = len(plan) - len(missing)
        if progress and missing:
            progress(done, len(plan), "")
        for n in run_in_pool(_stage, [(out, n, config, seed) for n in missing], n_jobs):
            done += 1
            publish(out / STAGING / names[n], out, names[n])
            if progress:
                progress(done, len(plan), names[n])
        shutil.rmtree(out / STAGING, ignore_errors=True)
        return _assemble(out, config, seed)


def plan_pairs(out: Path, config: SimulatePairsConfig, *, seed: int, overwrite: bool = False) -> dict[str, bool]:
    """Check everything that `simulate_pairs` checks before it begins; nothing is written.

    The arguments and errors are those of `simulate_pairs`.

    Returns:
        Name of each patient, and whether it is there already and would be kept.
    """
    out = Path(out)
    stamp = _check(out, config, seed, overwrite=overwrite)
    require_free(out)
    is_ours = _read_stamp(out) == stamp
    return {name: is_ours and _is_whole(out, name) for name in config.plan()}


def _check(out: Path, config: SimulatePairsConfig, seed: int, *, overwrite: bool) -> dict:
    """Check the settings and the folder; gives what the folder is marked with."""
    find_anatomies(config.cohort())
    stamp = json.loads(json.dumps({"pairs": to_dict(config), "seed": seed, "version": __version__}))
    _require_ours(out, stamp, overwrite)
    return stamp


def _require_ours(out: Path, stamp: dict, overwrite: bool) -> None:
    """Make sure that the folder is empty, of a run with the same settings, or simulated pairs to be replaced."""
    held = [path for path in out.iterdir() if not path.name.startswith(LOCK_FILE)] if out.exists() else []
    if not held:
        return
    found = _read_stamp(out)
    if found is None or "pairs" not in found:
        raise PreflightError("BMD-SIM-001", "it is not empty and holds no simulated pairs.", file=out)
    if found != stamp and not overwrite:
        raise PreflightError("BMD-SIM-001", "it holds pairs of other settings or another seed.", file=out)


def _read_stamp(out: Path) -> dict | None:
    try:
        return json.loads((out / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _clear(out: Path, stamp: dict) -> None:
    if _read_stamp(out) != stamp:
        withdraw(out)
        for name in (*PAIR_FOLDERS.values(), CASES, REPORT):
            shutil.rmtree(out / name, ignore_errors=True)
        write_json(out / SETTINGS, stamp)
    shutil.rmtree(out / STAGING, ignore_errors=True)


def _is_whole(out: Path, patient: str) -> bool:
    meta = read_meta(out, patient)
    return meta is not None and not any(find_damage(out, meta))


def _stage(out: Path, number: int, config: SimulatePairsConfig, seed: int) -> int:
    """Draw one patient and write its pairs to the staging folder."""
    patient, views = list(config.plan().items())[number]
    rng = np.random.default_rng([seed, number])
    drawn = draw_patient(find_anatomies(config.cohort()), config.cohort(), seed, number, rng)
    anatomy, tissue = drawn.anatomy, drawn.tissue
    staged = out / STAGING / patient
    known, dxa = _measure(drawn, config, rng)
    regions, mineral = Regions(known), mineral_channels(tissue)
    targets: TargetQuantity = "hu" if config.uncalibrated else "density"
    build = BuildConfig(seed=seed, folds=config.folds, targets=targets, pairs=config.pairs)
    labels = anatomy.labels()
    frame = find_pelvis_frame(labels, anatomy.heads_mm)
    shafts = {side: find_shaft_axis(labels, side, anatomy.heads_mm[side]) for side in config.sides}
    rows: list[PairRow] = []
    radiographs = []
    for place, pose in enumerate(config.poses):
        sides = [side for view, side in views if view == pose]
        if not sides:
            continue
        own = make_radiograph_generator(seed, number, place)
        exposed, radiograph, registered = _take_radiograph(drawn, mineral, pose, own)
        turns = {
            side: find_femur_turn(registered.poses["pelvis"], registered.poses[f"femur_{side}"]) for side in shafts
        }
        angles = {side: measure_hip_angles(frame, shafts[side], side, turn).to_dict() for side, turn in turns.items()}
        radiographs.append({"pose": pose, "camera": registered.camera.to_dict(), "angles": angles})
        for side in sides:
            hip = known.hips[side]
            row = PairRow(
                pair_id(patient, pose, side),
                patient,
                side,
                pose,
                dxa_bmd_g_cm2=dxa[side],
                qct_bmd_mg_cm3=hip.qct_bmd_mg_cm3,
                ct_abmd_g_cm2=hip.ct_abmd_g_cm2,
                calibration="none",
            )
            view = HipView(hip, radiograph, registered, regions, build)
            made = make_pairs(view, row, staged)
            rows += made
            if config.layers:
                _write_layers(exposed, view, made, staged)
    meta = CaseMeta(
        patient,
        "ok" if all(row.is_ok for row in rows) else "quarantined",
        data="simulated",
        key=hash_data({"settings": to_dict(config), "seed": seed, "number": number}),
        mineral_factor=tissue.mineral_factor,
        simulated=drawn.describe() or None,
        radiographs=tuple(radiographs),
        pairs=tuple(rows),
        outputs=hash_outputs(staged),
    )
    write_meta(staged, meta)
    return number


def _measure(
    drawn: DigitalPatient, config: SimulatePairsConfig, rng: np.random.Generator
) -> tuple[_Known, dict[Side, float]]:
    """The densities that the targets show, BMD as it is, and a DXA device's reading of each hip."""
    anatomy, tissue = drawn.anatomy, drawn.tissue
    labels = tissue.held_labels(anatomy.grid)  # so that the targets show all mineral of a bone
    projected = Volume(tissue.density(), anatomy.grid, "density_mg_cm3")
    hips, dxa = {}, {}
    for side in config.sides:
        landmarks = anatomy.landmarks[side]
        areal, volumetric = tissue.measure_bmd(anatomy, side)
        hips[side] = Hip(side, landmarks, proximal_femur(labels, landmarks), volumetric, areal)
        dxa[side] = areal * drawn.dxa_factors[side]
    if config.uncalibrated:
        projected = Volume(compute_tissue_hu(tissue, *draw_line(rng)), anatomy.grid, "hu")
    return _Known(labels, projected, hips), dxa


def _take_radiograph(
    drawn: DigitalPatient, mineral: Mapping[str, Channels], pose: PoseName, rng: np.random.Generator
) -> tuple[Exposed, Radiograph, Registered]:
    """One radiograph and its truth, as it would be read of what a vendor stores, and the true poses."""
    exposed, stored = take_stored(drawn.anatomy, drawn.tissue, mineral, pose, rng, drawn.radiographs)
    reading, values = XrayConfig(), stored.astype(np.float32)
    mask = np.ones(values.shape, bool)
    if exposed.stress & _NO_IMAGE:  # of a whole image the search finds nothing, and takes a third of all the time
        mask = find_image_area(values, mask)
    low, high = np.percentile(values[mask], (reading.low_percentile, reading.high_percentile))
    pixels = np.clip((values - low) / (high - low), 0, 1)
    poses = exposed.camera_from_ct
    registered = Registered(exposed.geometry, poses, dict.fromkeys(poses), dict.fromkeys(poses, "accept"))
    return exposed, Radiograph(pixels, mask, tube=TubeSettings(exposed.kvp)), registered


def _write_layers(exposed: Exposed, view: HipView, rows: Sequence[PairRow], staged: Path) -> None:
    """Write what the radiograph of a pair was made of beside its images, in the pair's window."""
    own = f"femur_{view.hip.side}"
    found = {
        "soft tissue": exposed.soft_g_cm2,
        "other bones": np.sum([image for body, image in exposed.bones_g_cm2.items() if body != own], axis=0),
        "femur": exposed.bones_g_cm2[own],
    }
    pages = np.stack([view.window.carry(found[name]) for name in LAYERS])
    for row in rows:
        if row.is_ok and row.dataset == "B":
            write_tiff(layers_file(staged / pair_folder(row.dataset, row.pair_id)), pages)


def _assemble(out: Path, config: SimulatePairsConfig, seed: int) -> tuple[ManifestRow, ...]:
    """Write manifest, description and checksums."""
    plan = config.plan()
    folds = assign_folds(list(plan), seed=seed, folds=config.folds)
    columns = () if config.population.female_share is None else ("sex",)
    rows: list[ManifestRow] = []
    sums: dict[str, str] = {}
    for patient in plan:
        meta = read_meta(out, patient)
        if meta is None:
            raise FileNotFoundError(f"{patient}: its meta.json has gone since it was published")
        sums |= meta.outputs
        carried = {name: str((meta.simulated or {})[name]) for name in columns}
        rows += [ManifestRow(row, folds[patient], carried) for row in meta.pairs]
    write_manifest(out, rows, columns)
    description = {
        "kind": KIND,
        "format": 1,
        "data": "simulated",
        "bmdkit": __version__,
        "units": list_units("hu" if config.uncalibrated else "density"),
        "image": {"rows": config.pairs.rows, "columns": config.pairs.columns, "pages": {"A": 2, "B": 1}},
        "counts": {"patients": len(plan), "patients_built": len(plan), "pairs": count_pairs(rows, ("A", "B"))},
        "configuration": to_dict(config) | {"seed": seed},
        "citation": CITATION,
    }
    write_json(out / DESCRIPTION, description)
    sums |= {name: sha256_of(out / name) for name in list_data_files(out) if name not in sums}
    write_sums(out, sums)
    return tuple(rows)
