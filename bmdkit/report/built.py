"""What a report reads: the tables of a built dataset, and the files of one case at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bmdkit.dataset.layout import (
    DESCRIPTION,
    calibration_file,
    case_folder,
    find_registrations,
    find_sides,
    list_patients,
    meta_file,
    pair_meta_file,
    registration_file,
)
from bmdkit.dataset.ratings import Rating, read_ratings
from bmdkit.errors import CODES
from bmdkit.evaluation.summary import read_rows

Row = Mapping[str, str]


@dataclass(frozen=True)
class BuildProblem:
    """Why something of a case was not built, or was built with a reservation.

    Attributes:
        patient_id: Patient whose data it concerns.
        code: Code of bmdkit.errors.CODES.
        reason: What was measured.
        subject: Names of the pairs that it holds for.
        status: failed, quarantined or flagged.
    """

    patient_id: str
    code: str
    reason: str
    subject: str = ""
    status: str = "quarantined"

    @property
    def cause(self) -> str:
        """What the code means."""
        return CODES[self.code].cause if self.code in CODES else "A code that this version of bmdkit does not know."

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        if self.code in CODES:
            return CODES[self.code].remedy
        return "Write the report with the version of bmdkit that built the dataset."


@dataclass(frozen=True)
class BuiltCase:
    """One patient of a built dataset.

    Attributes:
        patient_id: Identifier in the manifest.
        root: The dataset's folder.
        rows: Its manifest rows, in their order.
        problems: What is wrong with it.
        ratings: Pair -> what a reader thinks of it.
    """

    patient_id: str
    root: Path
    rows: tuple[Row, ...]
    problems: tuple[BuildProblem, ...]
    ratings: Mapping[str, Rating] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Folder of the case."""
        return case_folder(self.root, self.patient_id)

    def read_calibration(self) -> dict:
        """Read the calibration; empty if it is not there."""
        return read_json(calibration_file(self.folder))

    def read_meta(self) -> dict:
        """Read what the case says of itself; empty if it does not."""
        return read_json(meta_file(self.root, self.patient_id))

    def read_registration(self, radiograph: str) -> dict:
        """Read the registration of one radiograph; empty if it is not there."""
        return read_json(registration_file(self.folder, radiograph))

    @property
    def sides(self) -> tuple[str, ...]:
        """Hips that have rows or a region."""
        return tuple(sorted({row["side"] for row in self.rows if row.get("side")} | find_sides(self.folder)))

    @cached_property
    def radiographs(self) -> dict[str, list[Row]]:
        """Radiograph name -> its rows, in the order of the names; a registration without rows has an empty list."""
        names = list(find_registrations(self.folder))
        groups: dict[str, list[Row]] = {name: [] for name in names}
        for row in self.rows:
            groups.setdefault(self._radiograph_of(row, names), []).append(row)
        return dict(sorted(groups.items()))

    def _radiograph_of(self, row: Row, names: list[str]) -> str:
        if row.get("drr"):
            stated = read_json(pair_meta_file((self.root / row["drr"]).parent)).get("radiograph")
            if stated:
                return str(stated)
        fitting = [name for name in names if name in row.get("pair_id", "") or row.get("pose") in name.split("_")]
        return max(fitting, key=len) if fitting else row.get("pose") or row.get("pair_id", "")

    @property
    def verdict(self) -> str:
        """Say what became of it.

        Quarantined or failed if no pair was built, partial if some were not, else the worst verdict on its pairs; empty
        if there is no pair.
        """
        states = {row.get("status") for row in self.rows}
        if "ok" not in states:
            return next((word for word in ("quarantined", "failed") if word in states), "")
        if len(states) > 1:
            return "partial"
        said = {row.get("verdict") for row in self.rows}
        return next((word for word in ("reject", "review", "accept") if word in said), "ok")


@dataclass(frozen=True)
class BuiltDataset:
    """A folder that `bmdkit build-dataset` wrote.

    Attributes:
        root: The folder.
        rows: The manifest.
        problems: Problems of its rows, each once.
        about: Contents of dataset.json.
        ratings: Pair -> what a reader thinks of it.
    """

    root: Path
    rows: tuple[Row, ...]
    problems: tuple[BuildProblem, ...]
    about: Mapping
    ratings: Mapping[str, Rating] = field(default_factory=dict)

    @property
    def patients(self) -> tuple[str, ...]:
        """Everyone in the manifest or with a folder, sorted."""
        return tuple(sorted({row["patient_id"] for row in self.rows} | set(list_patients(self.root))))

    def cases(self) -> Iterable[BuiltCase]:
        """One case after another; nothing of an earlier one is kept."""
        rows, problems = defaultdict(list), defaultdict(list)
        for row in self.rows:
            rows[row["patient_id"]].append(row)
        for problem in self.problems:
            problems[problem.patient_id].append(problem)
        for patient in self.patients:
            yield BuiltCase(patient, self.root, tuple(rows[patient]), tuple(problems[patient]), self.ratings)


def read_built(root: Path) -> BuiltDataset:
    """The tables of a built dataset; while there is no manifest, what the finished cases say of themselves.

    Raises:
        PreflightError: Its ratings cannot be used (BMD-RAT-001).
    """
    rows = tuple(read_rows(root)) or tuple(_rows_of_cases(root))
    return BuiltDataset(root, rows, tuple(_problems(rows)), read_json(root / DESCRIPTION), read_ratings(root))


def _problems(rows: Iterable[Row]) -> Iterable[BuildProblem]:
    """One per patient, code and reason, naming the radiographs and hips that it holds for."""
    subjects: dict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
    pairs: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        patient, pair = row["patient_id"], row.get("pair_id") or ""
        pairs[patient].add(pair)
        if row.get("code"):
            status = str(row.get("status")) if row.get("status") in ("failed", "quarantined") else "flagged"
            subjects[patient, row["code"], row.get("reason") or "", status][pair] = None
    for (patient, code, reason, status), mine in subjects.items():
        names = [pair.removeprefix(f"{patient}__").replace("__", " ") for pair in mine]
        whole = set(mine) == pairs[patient] and len(mine) > 1
        yield BuildProblem(patient, code, reason, "all pairs" if whole else ", ".join(names), status)


def read_json(path: Path) -> dict:
    """A JSON object, or an empty one if the file is missing or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _rows_of_cases(root: Path) -> Iterable[dict[str, str]]:
    for patient in list_patients(root):
        for row in read_json(meta_file(root, patient)).get("pairs") or []:
            yield {name: "" if value is None else str(value) for name, value in row.items()}
