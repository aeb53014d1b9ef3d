"""What a build on a simulated cohort achieved, as plain rows: calibration, measurements, registration, correlations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import BODIES
from bmdkit.dataset.layout import MANIFEST_CSV, calibration_file, case_folder
from bmdkit.dataset.manifest import read_manifest
from bmdkit.evaluation.agreement import pearson, rms_cv_pct
from bmdkit.evaluation.registration_error import BodyError, PoseError, registration_errors

DENSITIES_MG_CM3 = np.array([0.0, 50.0, 100.0, 150.0, 200.0])
"""Where the calibration line is held against the truth: the range of the phantom's rods."""


@dataclass(frozen=True)
class Finding:
    """One line of a summary.

    Attributes:
        group: Cohort, Calibration, Measurement, Registration or BMD.
        quantity: What was measured, in words.
        value: The number, or NaN if there was nothing to measure it on.
        unit: Unit of the value; may be empty.
        n: Number of values behind it.
    """

    group: str
    quantity: str
    value: float
    unit: str
    n: int


def read_rows(built: Path) -> list[dict[str, str]]:
    """Read the rows of a dataset's manifest as text, none if there is no manifest yet."""
    return read_manifest(built) if (built / MANIFEST_CSV).exists() else []


def number(text: str | None) -> float:
    """A manifest cell as a number; NaN if it is empty or none."""
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")


def summarise(built: Path, truth: Path | None = None) -> list[Finding]:
    """Everything that can be said of a built dataset, and of its errors where the truth is known.

    Args:
        built: A folder that `bmdkit build-dataset` wrote.
        truth: The folder truth/ of the simulated cohort, or None.
    """
    rows = read_rows(built)
    findings = [_of_cohort(rows, name, status) for name, status in (("ok", "ok"), ("not built", None))]
    if truth is not None:
        known = {
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(truth.glob("*/truth.json"))
        }
        findings += [_calibration(built, known)]
        findings += list(_measurements(rows, known))
        findings += list(_registration(list(registration_errors(built, truth))))
    return findings + list(_correlations(rows))


def _of_cohort(rows: Sequence[Mapping[str, str]], name: str, status: str | None) -> Finding:
    chosen = [row for row in rows if (row.get("status") == "ok") == (status == "ok")]
    return Finding("Cohort", f"pairs {name}", float(len(chosen)), "", len({row["patient_id"] for row in chosen}))


def _median(group: str, quantity: str, values: Iterable[float], unit: str) -> Finding:
    finite = [v for v in values if np.isfinite(v)]
    return Finding(group, quantity, float(np.median(finite)) if finite else float("nan"), unit, len(finite))


def density_errors(slope: float, intercept: float, true: Mapping, densities_mg_cm3: np.ndarray) -> np.ndarray:
    """How far a calibration's line is off, mg/cm3, at each density.

    Args:
        slope: Slope of the line found, mg/cm3 per HU.
        intercept: Its intercept, mg/cm3.
        true: A patient's truth.json.
        densities_mg_cm3: (N,), true densities.
    """
    hu = true["calibration"]["hu_at_zero"] + true["calibration"]["hu_per_mg_cm3"] * densities_mg_cm3
    return np.abs(slope * hu + intercept - densities_mg_cm3)


def _calibration(built: Path, known: Mapping[str, Mapping]) -> Finding:
    """The largest error of a scan's line over the rods' densities, median over scans."""
    errors = []
    for patient, true in known.items():
        path = calibration_file(case_folder(built, patient))
        if path.exists():
            line = json.loads(path.read_text(encoding="utf-8"))
            slope, intercept = line["slope_mg_cm3_per_hu"], line["intercept_mg_cm3"]
            errors.append(float(density_errors(slope, intercept, true, DENSITIES_MG_CM3).max()))
    return _median("Calibration", "largest density error at 0 to 200 mg/cm3, median", errors, "mg/cm3")


def _hips(rows: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    hips = defaultdict(list)
    for row in rows:
        hips[row["patient_id"], row["side"]].append(row)
    return hips


def _measurements(rows: Sequence[Mapping[str, str]], known: Mapping[str, Mapping]) -> Iterable[Finding]:
    for column, key, name in (
        ("qct_bmd_mg_cm3", "qct_bmd_mg_cm3", "QCT-BMD"),
        ("ct_abmd_g_cm2", "areal_bmd_g_cm2", "CT-aBMD"),
    ):
        errors = []
        for (patient, side), mine in sorted(_hips(rows).items()):
            true = known.get(patient, {}).get("proximal_femur", {}).get(side, {}).get(key)
            found = next((v for v in (number(row.get(column)) for row in mine) if np.isfinite(v)), None)
            if true and found is not None:
                errors.append(100 * abs(found / true - 1))
        yield _median("Measurement", f"{name} error, median", errors, "%")


def _registration(errors: list[BodyError]) -> Iterable[Finding]:
    units = {f.name: f.name.rpartition("_")[2].replace("deg", "degrees") for f in fields(PoseError)}
    words = dict(
        zip(units, ("mTRE", "in-plane error", "depth error", "projection distance", "rotation error"), strict=True)
    )
    for body in BODIES:
        mine = [error.error for error in errors if error.body == body]
        table = np.array([astuple(error) for error in mine]).reshape(len(mine), len(units))
        for column, name in enumerate(units):
            yield _median("Registration", f"{body}: {words[name]}, median", table[:, column], units[name])
        share = 100 * float((table[:, 0] < 10).mean()) if len(mine) else float("nan")
        yield Finding("Registration", f"{body}: mTRE below 10 mm", share, "%", len(mine))
    lost = [e for e in errors if e.error.mtre_mm >= 10]
    accepted = sum(e.verdict == "accept" for e in lost)
    yield Finding(
        "Registration", "bodies with mTRE of 10 mm or more that were accepted", float(accepted), "", len(lost)
    )


def _correlations(rows: Sequence[Mapping[str, str]]) -> Iterable[Finding]:
    built = [row for row in rows if row.get("dataset") == "B" and row.get("status") == "ok"]
    mean = np.array([number(row.get("pf_drr_mean_g_cm2")) for row in built])
    for column, name in (("dxa_bmd_g_cm2", "DXA-BMD"), ("ct_abmd_g_cm2", "CT-aBMD"), ("qct_bmd_mg_cm3", "QCT-BMD")):
        other = np.array([number(row.get(column)) for row in built])
        both = np.isfinite(mean) & np.isfinite(other)
        yield Finding("BMD", f"PCC of PF-DRR mean with {name}", pearson(mean[both], other[both]), "", int(both.sum()))
    usable = np.isfinite(mean) & (mean > 0)
    hips = [f"{row['patient_id']} {row['side']}" for row, use in zip(built, usable, strict=True) if use]
    spread = rms_cv_pct(mean[usable], hips)
    yield Finding("BMD", "RMS-CV of PF-DRR mean over radiographs", spread, "%", len(set(hips)))
