"""The manifest: one row per pair, and the same in quarantine.csv for those that are not fit to be used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from bmdkit.core.anatomy import Side
from bmdkit.core.case import Case
from bmdkit.dataset.layout import MANIFEST_CSV, MANIFEST_PARQUET, QUARANTINE_CSV, DatasetName
from bmdkit.errors import CaseError, PreflightError
from bmdkit.io.results import open_whole_file, read_csv, write_csv

Status = Literal["ok", "quarantined", "failed"]

COLUMNS = (
    "pair_id",
    "dataset",
    "patient_id",
    "side",
    "pose",
    "xray",
    "drr",
    "mask",
    "dxa_bmd_g_cm2",
    "qct_bmd_mg_cm3",
    "ct_abmd_g_cm2",
    "pf_drr_mean_g_cm2",
    "calibration",
    "calibration_slope",
    "calibration_intercept",
    "segmentation_uncertainty",
    "registration_similarity",
    "verdict",
    "pf_error_pct_95",
    "status",
    "code",
    "reason",
    "fold",
    "xray_sha256",
    "drr_sha256",
    "mask_sha256",
)
"""As in the contract; the columns carried from the cohort follow."""

NUMBERS = (
    "dxa_bmd_g_cm2",
    "qct_bmd_mg_cm3",
    "ct_abmd_g_cm2",
    "pf_drr_mean_g_cm2",
    "calibration_slope",
    "calibration_intercept",
    "segmentation_uncertainty",
    "registration_similarity",
    "pf_error_pct_95",
)

QUARANTINE_COLUMNS = ("pair_id", "dataset", "patient_id", "side", "pose", "status", "code", "reason")


@dataclass(frozen=True)
class LeftOut:
    """Why something is left out.

    Attributes:
        code: Code of `bmdkit.errors`.
        reason: What was measured against what is allowed.
    """

    code: str
    reason: str

    @classmethod
    def from_error(cls, error: CaseError) -> LeftOut:
        """Make it of an error that a case's data caused."""
        return cls(error.code, error.message)


@dataclass(frozen=True)
class PairRow:
    """What a case says of one of its pairs; None stands where there is nothing to say.

    Attributes:
        pair_id, patient_id: Identifiers of the pair and of its patient.
        side: Target hip, the patient's own.
        pose: Pose of the radiograph, as the cohort names it.
        dxa_bmd_g_cm2: DXA-BMD that the cohort gives.
        qct_bmd_mg_cm3, ct_abmd_g_cm2: BMD of the proximal femur in the CT.
        calibration: Source of the calibration line.
        calibration_slope, calibration_intercept: The line, mg/cm3 per HU and mg/cm3.
        segmentation_uncertainty: Mean variance of the labels, where a network made them.
        dataset: A or B.
        registration_similarity: Least similarity of the bones that the pair shows.
        verdict: Worst verdict on their registration.
        pf_error_pct_95: Error of `pf_drr_mean_g_cm2`, %, that the uncertainty of the femur's pose leaves, 95th
            percentile.
        pf_drr_mean_g_cm2: Mean of the projection of the proximal femur.
        xray, drr, mask: Image files, relative to the dataset.
        xray_sha256, drr_sha256, mask_sha256: Their hashes.
        status: ok, or why the pair is left out: quarantined for its data, failed for a build that broke off.
        code, reason: Why it is left out; of a usable pair, why a later build of it failed.
    """

    pair_id: str
    patient_id: str
    side: Side
    pose: str
    dxa_bmd_g_cm2: float | None = None
    qct_bmd_mg_cm3: float | None = None
    ct_abmd_g_cm2: float | None = None
    calibration: str | None = None
    calibration_slope: float | None = None
    calibration_intercept: float | None = None
    segmentation_uncertainty: float | None = None
    dataset: DatasetName = "A"
    registration_similarity: float | None = None
    verdict: str | None = None
    pf_error_pct_95: float | None = None
    pf_drr_mean_g_cm2: float | None = None
    xray: str | None = None
    xray_sha256: str | None = None
    drr: str | None = None
    drr_sha256: str | None = None
    mask: str | None = None
    mask_sha256: str | None = None
    status: Status = "ok"
    code: str | None = None
    reason: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PairRow:
        """Read a row of a case's meta.json.

        Raises:
            TypeError: The row lacks a name that every pair has.
        """
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in names})

    @property
    def is_ok(self) -> bool:
        """Whether the pair can be used."""
        return self.status == "ok"

    @property
    def has_failed_since(self) -> bool:
        """Whether the pair can be used, and a later build of it failed."""
        return self.is_ok and self.code is not None

    def leave_out(self, why: LeftOut, status: Status = "quarantined") -> PairRow:
        """Return the row of a pair that is not fit to be used."""
        return replace(self, status=status, code=why.code, reason=why.reason)

    def note_failure(self, why: LeftOut) -> PairRow:
        """Return the row with why a later build failed, if the pair can be used; its values stay."""
        return replace(self, code=why.code, reason=why.reason) if self.is_ok else self

    def clear_failure(self) -> PairRow:
        """Return the row as it was before a later build failed; why a pair is left out stays."""
        return replace(self, code=None, reason=None) if self.is_ok else self

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a meta.json; of a pair that is left out, only what is known."""
        row = {item.name: getattr(self, item.name) for item in fields(self)}
        kept = ("code", "reason") if self.is_ok else row
        return {name: value for name, value in row.items() if value is not None or name not in kept}


@dataclass(frozen=True)
class ManifestRow:
    """One row of the manifest.

    Attributes:
        pair: What the case says of the pair.
        fold: Fold of the patient.
        carried: The cohort's further columns.
    """

    pair: PairRow
    fold: int
    carried: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all columns, None where there is nothing to say."""
        row = {name: getattr(self.pair, name) for name in COLUMNS if name != "fold"} | {"fold": self.fold}
        return {name: row[name] for name in COLUMNS} | dict(self.carried)


def list_carried_columns(cases: Iterable[Case]) -> tuple[str, ...]:
    """List the cohort's further columns, in its order, without `fold`, which the manifest has itself.

    Raises:
        PreflightError: One bears the name of a column of the manifest (BMD-RUN-032).
    """
    names = tuple(dict.fromkeys(name for case in cases for row in case.rows for name in row.carried))
    clash = [name for name in names if name in COLUMNS and name != "fold"]
    if clash:
        raise PreflightError("BMD-RUN-032", f"the cohort's column {', '.join(clash)} is one that the manifest writes")
    return tuple(name for name in names if name != "fold")


def list_problems(rows: Iterable[PairRow]) -> tuple[tuple[str, str, str], ...]:
    """List (what, code, reason) of everything that is left out, or whose new build failed, each pair once.

    What is the pair, and where its datasets differ, which of them: `p1__standing__L (A)`.
    """
    datasets: dict[str, list[str]] = {}
    left_out: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        datasets.setdefault(row.pair_id, []).append(row.dataset)
        if row.code is not None:
            left_out.setdefault((row.pair_id, row.code, row.reason or ""), []).append(row.dataset)
    return tuple(
        (pair if found == datasets[pair] else f"{pair} ({', '.join(found)})", code, reason)
        for (pair, code, reason), found in left_out.items()
    )


def write_manifest(out: Path, rows: Sequence[ManifestRow], carried: Sequence[str]) -> None:
    """Write manifest.csv and manifest.parquet, the same table twice, and quarantine.csv.

    Args:
        out: Folder of the dataset.
        rows: Rows in the order that they are to have.
        carried: Names of the carried columns.
    """
    plain = [row.to_dict() for row in rows]
    left_out = [{name: row[name] for name in QUARANTINE_COLUMNS} for row in plain if row["status"] != "ok"]
    write_csv(out / QUARANTINE_CSV, left_out, QUARANTINE_COLUMNS)
    _write_parquet(out / MANIFEST_PARQUET, plain, carried)
    write_csv(out / MANIFEST_CSV, plain, (*COLUMNS, *carried))


def read_manifest(root: Path) -> list[dict[str, str]]:
    """Read the rows of manifest.csv as text.

    Args:
        root: Folder of the dataset.

    Raises:
        OSError: There is none, or it cannot be read.
        ValueError: It is no table of text.
    """
    return read_csv(root / MANIFEST_CSV)


def parse_number(text: str | None) -> float | None:
    """Read a number of the manifest; an empty cell is None.

    Raises:
        ValueError: The text is no finite number.
    """
    value = float(text) if text else None
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{text!r} is no finite number")
    return value


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], carried: Sequence[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = {name: pyarrow.float64() for name in NUMBERS} | {"fold": pyarrow.int64()}
    columns = (*COLUMNS, *carried)
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in columns])
    table = pyarrow.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows], schema=schema)
    with open_whole_file(path) as temporary:
        parquet.write_table(table, temporary)
