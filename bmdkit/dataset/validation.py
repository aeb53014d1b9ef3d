"""What is wrong with the files that a cohort names, before anything is built from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from bmdkit.calibration.line import read_calibration
from bmdkit.core.anatomy import Side
from bmdkit.core.case import Case, CohortRow
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.input_checksums import InputChecksums, hash_files
from bmdkit.errors import CaseError
from bmdkit.io.cohort import Problem
from bmdkit.io.ct import read_ct
from bmdkit.io.ct_settings import CtConfig
from bmdkit.io.dicom_ct import read_series
from bmdkit.io.label_maps import read_labels
from bmdkit.io.markups import read_landmarks
from bmdkit.io.patient_identity import SamePerson, check_same_patient
from bmdkit.io.xray import check_laterality, inspect_radiograph, require_geometry
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.jobs.local_pool import count_processors
from bmdkit.jobs.processes import RunnerConfig, run_jobs
from bmdkit.regions.hip_check import check_landmarks
from bmdkit.segmentation.labels import LabelConfig, check_on_ct, prepare_labels

_THINNED_MM = 3.0  # voxels of the labels that sides and pieces are looked for in
_OTHER_SIDE_MM = 5.0
_CASES_PER_PROCESS = 500

T = TypeVar("T")


@dataclass(frozen=True)
class ValidationConfig:
    """How files will be read and what they have to satisfy, as in a build.

    Attributes:
        xray: How radiographs will be read.
        labels: What label maps have to satisfy.
        ct: How CTs will be read.
        same_person: How it is checked that a CT and a radiograph are of one person.
        series_uid: CT series to take where a folder holds several.
    """

    xray: XrayConfig = field(default_factory=XrayConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    ct: CtConfig = field(default_factory=CtConfig)
    same_person: SamePerson = "ids"
    series_uid: str | None = None


VALIDATED = ("xray", "labels", "ct", "same_person")
"""Keys of a recipe that say what is validated and how."""


def check_cases(
    cases: Sequence[Case],
    config: ValidationConfig | None = None,
    *,
    n_jobs: int | None = None,
    timeout_s: float | None = None,
    checksums: InputChecksums | None = None,
    on_case: Callable[[str], None] | None = None,
) -> list[Problem]:
    """Open every file of every case in child processes and hold them against each other.

    A file that makes a parser crash, hang or eat memory is a problem like any other.

    Args:
        cases: Cases of a cohort.
        config: How files will be read.
        n_jobs: Processes at once; None: as many as there are processors.
        timeout_s: Time that a case may take; None: any.
        checksums: Checksums that the files must have; None: the cohort is not sealed.
        on_case: Called with each patient's identifier when it is done.

    Returns:
        Everything that would quarantine a case or leave out a hip, in the order of the lines.
    """
    check = partial(check_case, config=config)
    jobs = ((case.patient_id, (case, None if checksums is None else checksums.select_case(case))) for case in cases)
    runner = RunnerConfig(n_jobs or count_processors(), timeout_s, recycle_after=_CASES_PER_PROCESS)
    lines = {case.patient_id: case.rows[0].line for case in cases}
    problems: list[Problem] = []
    for outcome in run_jobs(check, jobs, runner):
        if outcome.code is None:
            problems += outcome.value
        else:
            problems.append(Problem(lines[outcome.name], "", outcome.code, f"{outcome.reason}."))
        if on_case is not None:
            on_case(outcome.name)
    return sorted(problems, key=lambda problem: (problem.line, problem.code, problem.column))


def check_case(
    case: Case, checksums: InputChecksums | None = None, config: ValidationConfig | None = None
) -> list[Problem]:
    """Open every file of one case and hold them against each other.

    Headers are read of a DICOM CT without labels and of radiographs; volume files, label maps, landmarks and
    calibrations are read whole, and so is a CT that labels have to lie on.

    Args:
        case: Rows of one patient.
        checksums: Checksums that the files must have; None: the cohort is not sealed.
        config: How files will be read.

    Returns:
        Everything that would quarantine the case or leave out a hip.
    """
    work = _CaseCheck(case, ValidationConfig() if config is None else config)
    ct, key = work.check_ct()
    work.check_radiographs(key)
    labels = work.check_labels(ct)
    work.check_landmarks(labels)
    work.check_calibration()
    if checksums is not None:
        work.check_sums(checksums)
    return sorted(work.problems, key=lambda problem: (problem.line, problem.code, problem.column))


class _CaseCheck:
    """The files of one case, opened one after the other; `problems` collects what is wrong."""

    def __init__(self, case: Case, config: ValidationConfig) -> None:
        self.case, self.config = case, config
        self.problems: list[Problem] = []

    def _attempt(self, row: CohortRow, column: str, act: Callable[[], T]) -> T | None:
        """What an act returns; None with a problem where it finds the file unfit."""
        try:
            return act()
        except CaseError as error:
            self.problems.append(Problem(row.line, column, error.code, error.message))
            return None

    def _row_of(self, column: str) -> CohortRow:
        return next((row for row in self.case.rows if getattr(row, column) is not None), self.case.rows[0])

    def check_ct(self) -> tuple[Volume | None, str | None]:
        """The CT if it was read, and whom it shows; neither where it is unfit."""
        case, row = self.case, self.case.rows[0]
        uid, settings = self.config.series_uid, self.config.ct
        if case.ct.is_dir() and case.labels is None:
            series = self._attempt(row, "ct", lambda: read_series(case.ct, series_uid=uid, config=settings))
            return None, None if series is None else series.patient_key
        scan = self._attempt(row, "ct", lambda: read_ct(case.ct, series_uid=uid, config=settings))
        return (None, None) if scan is None else (scan.volume, scan.patient_key)

    def check_radiographs(self, ct_key: str | None) -> None:
        """The headers of every radiograph against the CT's and against the table."""
        for path in self.case.xrays:
            rows = [row for row in self.case.rows if row.xray == path]
            facts = self._attempt(rows[0], "xray", partial(inspect_radiograph, path, config=self.config.xray))
            if facts is None:
                continue
            self._attempt(rows[0], "xray", partial(require_geometry, facts))
            rule = self.config.same_person
            told = self._attempt(rows[0], "xray", partial(check_same_patient, ct_key, facts.patient_key, rule=rule))
            for warning in told or ():
                self.problems.append(Problem(rows[0].line, "xray", "BMD-XR-021", f"{warning}.", is_warning=True))
            for row in rows:
                self._attempt(row, "side", partial(check_laterality, facts, row.side))

    def check_labels(self, ct: Volume | None) -> LabelMap | None:
        """The labels as a build would use them, in coarser voxels; None if there are none, or they are unfit."""
        path = self.case.labels
        if path is None:
            return None
        row = self._row_of("labels")
        labels = self._attempt(row, "labels", lambda: read_labels(path))
        if labels is None:
            return None
        sided = self._attempt(row, "labels", lambda: prepare_labels(thin_out(labels), None, self.config.labels))
        if sided is None:
            return None
        if ct is not None and self._attempt(row, "labels", lambda: _hold_against(labels, ct, self.config)) is None:
            return None
        for side in self.case.sides:
            if not sided.mask(f"femur_{side}").any():
                row = next(row for row in self.case.rows if row.side == side)
                message = f"the labels have no voxel of femur_{side}."
                self.problems.append(Problem(row.line, "labels", "BMD-LBL-002", message))
        return sided

    def check_landmarks(self, labels: LabelMap | None) -> None:
        """The landmarks of each hip: readable, of this side, and on the femur of the labels."""
        for side in self.case.sides:
            path = self.case.landmarks_of(side)
            if path is None:
                continue
            row = next(row for row in self.case.rows if row.landmarks == path)
            found = self._attempt(row, "landmarks", partial(read_landmarks, path, side))
            if found is None:
                continue
            if self._attempt(row, "landmarks", partial(require_side, found)) is None or labels is None:
                continue
            for flag in check_landmarks(labels, found):
                self.problems.append(Problem(row.line, "landmarks", flag.code, f"{flag.message}."))

    def check_calibration(self) -> None:
        """The line that is given in place of a phantom."""
        path = self.case.calibration
        if path is not None:
            self._attempt(self._row_of("calibration"), "calibration", lambda: read_calibration(path))

    def check_sums(self, checksums: InputChecksums) -> None:
        """Every file against the checksum that it had when the cohort was sealed."""
        for role, what in checksums.find_changes(self.case.inputs, hash_files(self.case)).items():
            line = self.case.rows[0].line
            self.problems.append(Problem(line, role.partition("_")[0], "BMD-SUM-001", f"{what}."))


def require_side(landmarks: Landmarks) -> Side:
    """Make sure that landmarks are of the side that they are given for: the head lies nearer to the body's middle.

    Returns:
        The side.

    Raises:
        CaseError: The shaft lies on the inner side of the head, as it does in the other hip (BMD-LMK-003).
    """
    outer = [landmarks[name] for name in ("shaft_2cm", "shaft_5cm", "neck_center") if name in landmarks]
    if "head_center" in landmarks and outer:
        across = float(np.mean(outer, axis=0)[0] - landmarks["head_center"][0])
        inward = -across if landmarks.side == "L" else across
        if inward > _OTHER_SIDE_MM:
            raise CaseError(
                "BMD-LMK-003",
                f"they are of the other side: the shaft lies {inward:.0f} mm inward of the head, "
                f"allowed {_OTHER_SIDE_MM:.0f} mm.",
            )
    return landmarks.side


def thin_out(labels: LabelMap) -> LabelMap:
    """Every n-th voxel along each axis, so that voxels are hardly larger than 3 mm: enough to tell sides and pieces."""
    steps = [max(int(_THINNED_MM / spacing), 1) for spacing in labels.grid.spacing_mm[::-1]]
    if steps == [1, 1, 1]:
        return labels
    array = np.ascontiguousarray(labels.array[tuple(slice(None, None, step) for step in steps)])
    grid = labels.grid
    coarse = Grid(array.shape, grid.spacing_mm * steps[::-1], grid.origin_mm, grid.direction)
    return LabelMap(array, coarse, labels.values)


def _hold_against(labels: LabelMap, ct: Volume, config: ValidationConfig) -> bool:
    check_on_ct(labels, ct, config.labels)
    return True


def count_radiographs(cases: Iterable[Case]) -> int:
    """The radiographs of all cases, each once."""
    return len({path for case in cases for path in case.xrays})
