"""What the headers of a cohort's images already tell, before any pixel is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bmdkit.core.case import Case, CohortRow
from bmdkit.errors import CaseError
from bmdkit.io.cohort import Problem
from bmdkit.io.dicom_ct import read_series
from bmdkit.io.markups import read_landmarks
from bmdkit.io.patient_identity import check_same_patient
from bmdkit.io.volumes import VOLUME_SUFFIXES, suffix_of
from bmdkit.io.xray import check_laterality, inspect_radiograph, require_geometry
from bmdkit.io.xray_settings import XrayConfig


def check_images(
    cases: Iterable[Case],
    config: XrayConfig | None = None,
    *,
    series_uid: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Problem]:
    """Read the headers of every CT and radiograph, and the landmark files, and hold them against the table.

    Args:
        cases: As read from the cohort.
        config: How radiographs will be read.
        series_uid: The CT series that will be taken.
        progress: Called with each patient's identifier when it is done.

    Returns:
        Everything that would quarantine a case, in order of lines.
    """
    problems: list[Problem] = []
    for case in cases:
        problems += _check_case(case, config or XrayConfig(), series_uid)
        if progress is not None:
            progress(case.patient_id)
    return sorted(problems, key=lambda p: (p.line, p.code, p.column))


def _check_case(case: Case, config: XrayConfig, series_uid: str | None) -> list[Problem]:
    found: list[Problem] = []

    def attempt(row: CohortRow, column: str, act: Callable):
        try:
            return act()
        except CaseError as error:
            found.append(Problem(row.line, column, error.code, error.message))
            return None

    first = case.rows[0]
    ct_key = attempt(first, "ct", lambda: _ct_key(case.ct, series_uid))
    facts = {}
    for row in case.rows:
        if row.xray not in facts:
            facts[row.xray] = attempt(row, "xray", lambda row=row: inspect_radiograph(row.xray, config=config))
            if (seen := facts[row.xray]) is not None:
                attempt(row, "xray", lambda seen=seen: require_geometry(seen))
                attempt(row, "xray", lambda seen=seen: check_same_patient(ct_key, seen.patient_key))
        if (seen := facts[row.xray]) is not None:
            attempt(row, "side", lambda row=row, seen=seen: check_laterality(seen, row.side))
    for side in case.sides:
        if (path := case.landmarks_of(side)) is not None:
            row = next(r for r in case.rows if r.landmarks == path)
            attempt(row, "landmarks", lambda path=path, side=side: read_landmarks(path, side))
    return found


def _ct_key(path: Path, series_uid: str | None) -> str | None:
    """Who a CT shows; None if it is no DICOM."""
    if path.is_dir():
        return read_series(path, series_uid=series_uid).patient_key
    if suffix_of(path) not in VOLUME_SUFFIXES:
        raise CaseError("BMD-CT-020", f"expected a folder or one of {', '.join(VOLUME_SUFFIXES)}.", file=path.name)
    return None
