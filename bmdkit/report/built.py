"""What a report reads: the tables of a built dataset, and the files of one case at a time."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bmdkit.errors import CODES
from bmdkit.evaluation.summary import read_manifest

Row = Mapping[str, str]

STANDARD_COLUMNS = frozenset(
    (
        *("pair_id", "dataset", "patient_id", "side", "pose", "xray", "drr", "mask"),
        *("dxa_bmd_g_cm2", "qct_bmd_mg_cm3", "ct_abmd_g_cm2", "pf_drr_mean_g_cm2"),
        *("calibration", "calibration_slope", "calibration_intercept"),
        *("segmentation_uncertainty", "registration_similarity", "verdict", "status", "code", "reason", "fold"),
    )
)
"""Columns of a manifest that bmdkit itself fills, the checksums aside; the others were carried from the cohort."""


@dataclass(frozen=True)
class Problem:
    """Why something of a case was not built, or was built with a reservation.

    Attributes:
        patient_id: Whose.
        code: Of bmdkit.errors.CODES.
        reason: What was measured.
        subject: The radiograph, pair or file it is about; may be empty.
        status: failed, quarantined or flagged.
    """

    patient_id: str
    code: str
    reason: str
    subject: str = ""
    status: str = "quarantined"

    @property
    def cause(self) -> str:
        return CODES[self.code].cause if self.code in CODES else "A code that this version of bmdkit does not know."

    @property
    def remedy(self) -> str:
        if self.code in CODES:
            return CODES[self.code].remedy
        return "Write the report with the version of bmdkit that built the dataset."


@dataclass(frozen=True)
class BuiltCase:
    """One patient of a built dataset.

    Attributes:
        patient_id: As in the manifest.
        root: The dataset's folder.
        rows: Its manifest rows, in their order.
        problems: What is wrong with it.
    """

    patient_id: str
    root: Path
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]

    @property
    def folder(self) -> Path:
        return self.root / "cases" / self.patient_id

    def json(self, name: str) -> dict:
        """A JSON file of the case; empty if it is not there."""
        return read_json(self.folder / name)

    @property
    def sides(self) -> tuple[str, ...]:
        """Hips that have rows or a region."""
        regions = {p.name.split(".")[0][-1] for p in self.folder.glob("proximal_femur_?.nii.gz")}
        return tuple(sorted({row["side"] for row in self.rows if row.get("side")} | regions))

    @cached_property
    def radiographs(self) -> dict[str, list[Row]]:
        """Radiograph name -> its rows, in the order of the names; a registration without rows has an empty list."""
        names = sorted(p.stem.removeprefix("registration_") for p in self.folder.glob("registration_*.json"))
        groups: dict[str, list[Row]] = {name: [] for name in names}
        for row in self.rows:
            groups.setdefault(self._radiograph_of(row, names), []).append(row)
        return dict(sorted(groups.items()))

    def _radiograph_of(self, row: Row, names: list[str]) -> str:
        if row.get("drr"):
            stated = read_json((self.root / row["drr"]).with_name("meta.json")).get("radiograph")
            if stated:
                return str(stated)
        fitting = [name for name in names if name in row.get("pair_id", "") or row.get("pose") in name.split("_")]
        return max(fitting, key=len) if fitting else row.get("pose") or row.get("pair_id", "")

    @property
    def verdict(self) -> str:
        """The worst that was said of it: quarantined, failed, reject, review, accept; empty if nothing was."""
        said = {row.get("status") for row in self.rows} | {row.get("verdict") for row in self.rows}
        said |= {problem.status for problem in self.problems}
        order = ("quarantined", "failed", "reject", "review", "accept", "ok")
        return next((word for word in order if word in said), "")


@dataclass(frozen=True)
class BuiltDataset:
    """A folder that `bmdkit build-dataset` wrote.

    Attributes:
        root: The folder.
        rows: The manifest.
        problems: Of rows and cases, each once.
        about: dataset.json.
    """

    root: Path
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    about: Mapping

    @property
    def patients(self) -> tuple[str, ...]:
        """Everyone in the manifest, in the table of quarantined cases or with a folder, sorted."""
        folders = self.root / "cases"
        named = {row["patient_id"] for row in self.rows} | {p.patient_id for p in self.problems if p.patient_id}
        if folders.is_dir():
            named |= {p.name for p in folders.iterdir() if p.is_dir()}
        return tuple(sorted(named))

    def cases(self) -> Iterable[BuiltCase]:
        """One case after another; nothing of an earlier one is kept."""
        rows, problems = defaultdict(list), defaultdict(list)
        for row in self.rows:
            rows[row["patient_id"]].append(row)
        for problem in self.problems:
            problems[problem.patient_id].append(problem)
        for patient in self.patients:
            case = BuiltCase(patient, self.root, tuple(rows[patient]), ())
            flags = [
                p for p in flagged(case) if (p.code, p.reason) not in {(q.code, q.reason) for q in problems[patient]}
            ]
            yield BuiltCase(patient, self.root, tuple(rows[patient]), (*problems[patient], *flags))


def read_built(root: Path) -> BuiltDataset:
    """The tables of a built dataset; those that are not there yet count as empty."""
    rows = tuple(read_manifest(root))
    found: dict[tuple, Problem] = {}
    for row in rows:
        if row.get("code"):
            status = row.get("status", "")
            problem = Problem(
                row["patient_id"],
                row["code"],
                row.get("reason", ""),
                " ".join(filter(None, (row.get("pose"), row.get("side")))),
                status if status in ("failed", "quarantined") else "flagged",
            )
            found.setdefault((problem.patient_id, problem.code, problem.reason, problem.subject), problem)
    covered = {(p.patient_id, p.code, p.reason) for p in found.values()}
    for row in _read_table(root / "quarantine.csv"):
        subject = row.get("pair_id") or row.get("file") or row.get("xray") or row.get("side") or ""
        reason = row.get("reason") or row.get("message") or ""
        problem = Problem(
            row.get("patient_id", ""), row.get("code", ""), reason, subject, row.get("status") or "quarantined"
        )
        if (problem.patient_id, problem.code, problem.reason) not in covered:
            found.setdefault((problem.patient_id, problem.code, problem.reason, problem.subject), problem)
    return BuiltDataset(root, rows, tuple(found.values()), read_json(root / "dataset.json"))


def flagged(case: BuiltCase) -> list[Problem]:
    """The reservations that the case's own record holds."""
    problems = []
    for flag in case.json("meta.json").get("flags") or []:
        if isinstance(flag, Mapping) and flag.get("code"):
            subject = str(flag.get("side") or flag.get("radiograph") or "")
            reason = str(flag.get("message") or flag.get("reason") or "")
            problems.append(Problem(case.patient_id, str(flag["code"]), reason, subject, "flagged"))
    return problems


def read_json(path: Path) -> dict:
    """A JSON object, or an empty one if the file is missing or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _read_table(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))
