"""Errors against what may cause them: how the radiograph was taken, how the hip lay, what the cohort carries."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.pose_json import parse_poses
from bmdkit.dataset.layout import case_folder, landmarks_file, pair_meta_file
from bmdkit.dataset.manifest import COLUMNS as MANIFEST_COLUMNS
from bmdkit.dataset.manifest import read_manifest
from bmdkit.dataset.samples import Pair, read_pairs
from bmdkit.errors import CaseError
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, bootstrap_interval, pearson
from bmdkit.evaluation.joint_angle_errors import read_joint_angles
from bmdkit.io.markups import read_landmarks
from bmdkit.io.results import finite, write_csv
from bmdkit.study.finished_runs import Method
from bmdkit.study.task_values import Split, TaskValues, iterate_task_values

_REPEATS = 500
_EVERY = ("accept", "review", "reject")


@dataclass(frozen=True)
class ErrorSourceRow:
    """One row of error_sources.csv: how the errors of a method go with one quantity.

    Attributes:
        method, seed, task: What predicted.
        source: Quantity that the errors are held against.
        images, patients: Images whose value is known, and their patients.
        low, high: Smallest and largest value of the quantity.
        r, r_low, r_high: Correlation of the error with it, with its 95 % interval, patients resampled; None below ten
            patients, or where all values are equal.
        r_absolute, r_absolute_low, r_absolute_high: The same of the absolute error.
    """

    method: str
    seed: int
    task: str
    source: str
    images: int
    patients: int
    low: float
    high: float
    r: float | None
    r_low: float | None
    r_high: float | None
    r_absolute: float | None
    r_absolute_low: float | None
    r_absolute_high: float | None


def write_error_sources(methods: Sequence[Method], data: Path, split: Split, path: Path) -> None:
    """Write how the errors of methods go with everything numeric that is known of their images.

    Args:
        methods: Methods whose errors are looked at, of dataset B.
        data: Their dataset.
        split: Patients whose errors are taken.
        path: Table to write.
    """
    known = read_sources(data)
    rows = [row for method, values in iterate_task_values(methods, split) for row in _rows_of(method, values, known)]
    write_csv(path, map(asdict, rows), [field.name for field in fields(ErrorSourceRow)])


def read_sources(data: Path) -> dict[str, dict[str, float]]:
    """What is known of the images of a dataset, by quantity and pair: the machine, the hip, the cohort's columns.

    Args:
        data: The dataset.
    """
    pairs = read_pairs(data, "B", verdicts=_EVERY)
    found: dict[str, dict[str, float]] = {}

    def note(name: str, pair: str, value: float | None) -> None:
        if value is not None and math.isfinite(value):
            found.setdefault(name, {})[pair] = value

    for pair in pairs:
        meta = _read_meta(pair)
        tube = meta.get("tube") or {}
        note("tube voltage, kV", pair.pair_id, tube.get("voltage_kv"))
        note("exposure, mAs", pair.pair_id, tube.get("exposure_mas"))
        note("magnification", pair.pair_id, _find_magnification(data, pair, meta))
    for name, angles in read_joint_angles(data, pairs).items():
        note("flexion, degrees", name, angles.flexion_deg)
        note("abduction, degrees", name, angles.abduction_deg)
        note("rotation since the CT, degrees", name, angles.rotation_change_deg)
    for row in read_manifest(data):
        if row.get("dataset") == "B":
            for name, cell in row.items():
                if name not in MANIFEST_COLUMNS:
                    note(name, row["pair_id"], _number(cell))
            note("registration_similarity", row["pair_id"], _number(row.get("registration_similarity") or ""))
    return found


def _read_meta(pair: Pair) -> dict[str, Any]:
    """The meta.json beside the images of a pair; empty where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads(pair_meta_file(pair.xray.parent).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _find_magnification(data: Path, pair: Pair, meta: Mapping[str, Any]) -> float | None:
    """How much larger the femoral head is on the detector than it is: SDD over its depth, where the pose is known."""
    try:
        side: Side = "L" if pair.side == "L" else "R"
        landmarks = read_landmarks(landmarks_file(case_folder(data, pair.patient_id), side), side)
        pose = parse_poses(meta["camera_from_ct"][f"femur_{side}"]).first()
        depth_mm = float(pose.apply(landmarks.points_mm["head_center"])[2])
        return float(meta["camera"]["sdd_mm"]) / depth_mm
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, CaseError):
        return None


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _rows_of(method: Method, values: TaskValues, known: Mapping[str, Mapping[str, float]]) -> Iterator[ErrorSourceRow]:
    for source, of_pairs in known.items():
        inside = np.array([row.pair_id in of_pairs for row in values.rows], bool)
        if inside.sum() < 3:
            continue
        x = np.array([of_pairs[row.pair_id] for row in values.rows if row.pair_id in of_pairs])
        patients = [row.patient_id for row in values.rows if row.pair_id in of_pairs]
        errors = values.errors[inside]
        about = (method.name, method.first_seed, values.task, source, len(x), len(set(patients)))
        limits = (float(x.min()), float(x.max()))
        yield ErrorSourceRow(
            *about, *limits, *_correlate(x, errors, patients), *_correlate(x, np.abs(errors), patients)
        )


def _correlate(
    x: np.ndarray, y: np.ndarray, patients: Sequence[str]
) -> tuple[float | None, float | None, float | None]:
    if len(set(patients)) < FEWEST_PATIENTS or np.ptp(x) == 0:
        return None, None, None
    rng = np.random.default_rng(0)
    low, high = bootstrap_interval(pearson, x, y, patients=patients, rng=rng, repeats=_REPEATS)
    return finite(pearson(x, y)), finite(low), finite(high)
