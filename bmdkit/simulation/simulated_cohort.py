"""A cohort of digital patients in the layout of the public contract, and the truth about each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit import config as settings_module
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_csv, write_json
from bmdkit.jobs.local_pool import run_in_pool
from bmdkit.simulation.hip_variation import MOST_MORE_GIRTH_MM
from bmdkit.simulation.patient import Draw, locate_truth_file, simulate_patient
from bmdkit.simulation.population import Sex
from bmdkit.simulation.procedural_anatomy import Anatomy, draw_anatomy
from bmdkit.simulation.settings import SimulateConfig

COLUMNS = ("patient_id", "ct", "xray", "pose", "side", "landmarks", "labels", "dxa_bmd")
"""Of the table; `sex` follows where the population has sexes."""
Progress = Callable[[int, int, str], None]
"""Called with the number of patients done, of all patients, and the name of the last one done."""


def simulate_cohort(
    out: Path,
    config: SimulateConfig,
    *,
    seed: int,
    n_jobs: int = 1,
    only: Collection[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a cohort and its truth; patients that an earlier run with the same settings finished are kept.

    A patient depends on the settings, the seed and its number alone: not on how many there are or on the jobs.

    Args:
        out: Folder of the cohort.
        config: Settings of the patients.
        seed: Seed of all random draws.
        n_jobs: Number of processes.
        only: Names of the patients to simulate; all if empty. The table holds all that are there.
        overwrite: Whether a simulated cohort of other settings is replaced.
        progress: Function that is called before the first patient and after each, with the patients done, all patients,
            and the name of the last one done, "" before the first.

    Returns:
        The cohort's table.

    Raises:
        PreflightError: BMD-SIM-001, the folder holds something else; BMD-SIM-002 and -003, an unusable label map.
        ValueError: `only` names a patient that the cohort does not have.
    """
    out = Path(out)
    names = list_patients(config)
    if unknown := sorted(set(only) - set(names)):
        raise ValueError(f"only: expected names from {names[0]} to {names[-1]}, got {', '.join(unknown)}")
    find_anatomies(config)
    stamp = {**settings_module.to_dict(config), "patients": None, "seed": seed}
    _claim_folder(out, json.loads(json.dumps(stamp)), overwrite)
    wanted = [n for n, name in enumerate(names) if not only or name in only]
    missing = [n for n in wanted if not locate_truth_file(out, names[n]).exists()]
    done = len(wanted) - len(missing)
    jobs = [(out, names[n], n, config, seed) for n in missing]
    if progress and jobs:
        progress(done, len(wanted), "")
    for n in run_in_pool(_simulate, jobs, n_jobs):
        done += 1
        if progress:
            progress(done, len(wanted), names[n])
    there = {name: locate_truth_file(out, name) for name in names if locate_truth_file(out, name).exists()}
    rows = [
        row for name, file in there.items() for row in _make_rows(name, json.loads(file.read_text("utf-8")), config)
    ]
    has_sex = config.population.female_share is not None
    write_csv(out / "cohort.csv", rows, (*COLUMNS, "sex") if has_sex else COLUMNS)
    return out / "cohort.csv"


def simulate(
    out: str | Path,
    *,
    recipe: str | Path | Mapping[str, Any] | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Simulate a cohort of digital patients with known truth; `bmdkit simulate` does the same.

    The same seed makes the same patients. What an earlier call finished is kept. A script that calls this with several
    processes does so below `if __name__ == "__main__":`.

    Args:
        out: Folder of the cohort; the truth goes to its folder `truth`.
        recipe: Settings: a YAML recipe, or the mapping that such a file holds.
        seed: Seed of all random draws.
        n_jobs: Number of processes.
        overwrite: Whether a simulated cohort of other settings is replaced.
        progress: Function that is called before the first patient and after each, with the patients done, all patients,
            and the name of the last one done, "" before the first.

    Returns:
        The table cohort.csv.

    Raises:
        ConfigError: A setting is unknown or mistyped.
        PreflightError: The folder holds something else (BMD-SIM-001), or the label map is unusable (002, 003).

    Example:
        >>> table = simulate("cohort", recipe={"patients": 2, "poses": ["standing"]}, seed=1)  # doctest: +SKIP
    """
    settings = settings_module.make_settings(SimulateConfig, recipe)
    return simulate_cohort(Path(out), settings, seed=seed, n_jobs=n_jobs, overwrite=overwrite, progress=progress)


def list_patients(config: SimulateConfig) -> list[str]:
    """List the names of a cohort's patients."""
    return [f"{config.prefix}{number:03d}" for number in range(config.patients)]


def _simulate(out: Path, patient: str, number: int, config: SimulateConfig, seed: int) -> int:
    return simulate_patient(out, patient, number, find_anatomies(config), config, seed)


def _claim_folder(out: Path, stamp: dict, overwrite: bool) -> None:
    """Make sure that the folder is ours to write: empty, or of a run with the same settings."""
    mark = out / "simulate.json"
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


@lru_cache(maxsize=1)  # each process reads a label map once
def find_anatomies(config: SimulateConfig) -> Draw:
    """Find what draws the patients: the built-in anatomy, the label map that the settings name, or several of both."""
    names = config.anatomies or ("procedural" if config.anatomy is None else str(config.anatomy),)
    draws = {name: _find_anatomy(name, config) for name in dict.fromkeys(names)}
    if len(draws) == 1:
        return draws[names[0]]

    def draw_any(rng: np.random.Generator, *, sex: Sex | None = None) -> Anatomy:
        return draws[names[int(rng.integers(len(names)))]](rng, sex=sex)

    return draw_any


def _find_anatomy(name: str, config: SimulateConfig) -> Draw:
    if name == "procedural":
        return partial(draw_anatomy, grid_mm=config.grid_mm, variation=config.variation)
    from bmdkit.simulation.label_anatomy import draw_from_shapes, read_shapes

    room_mm = MOST_MORE_GIRTH_MM if config.variation else 0.0
    shapes = read_shapes(Path(name), config.anatomy_labels, config.grid_mm, room_mm)
    return partial(draw_from_shapes, shapes, warp_mm=config.warp_mm, variation=config.variation)


def _make_rows(patient: str, record: dict, config: SimulateConfig) -> list[dict]:
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
            **({"sex": record["sex"]} if "sex" in record else {}),
        }
        for pose in config.poses
        for side in config.sides
    ]
