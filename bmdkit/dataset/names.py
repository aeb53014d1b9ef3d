"""Names of radiographs and pairs in the output: safe in any file system, unique, and the same whatever the order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bmdkit.core.anatomy import Side
from bmdkit.core.case import Case, CohortRow
from bmdkit.core.naming import make_safe_name, make_unique_name
from bmdkit.dataset.manifest import PairRow


class RadiographNames:
    """The names of a case's radiographs, and of its pairs.

    Args:
        case: Rows of one patient.
        anonymous: Whether file names must not be shown.
    """

    def __init__(self, case: Case, *, anonymous: bool) -> None:
        """Name every radiograph of the case."""
        self.by_file = name_radiographs(case, anonymous=anonymous)
        self._case = case
        self._short = shorten_names(case.patient_id, self.by_file.values())

    def start_row(self, row: CohortRow) -> PairRow:
        """Return what the manifest says of a row of the cohort before anything is looked at."""
        pair = pair_id(self._case.patient_id, self._short[self.by_file[row.xray]], row.side)
        return PairRow(pair, self._case.patient_id, row.side, row.pose, row.dxa_bmd_g_cm2)


def name_radiographs(case: Case, *, anonymous: bool = False) -> dict[Path, str]:
    """A name per radiograph of a case: its file's stem, or its pose when file names must not be shown.

    Only letters, digits, '.', '-' and single '_' between them; unique in the case without regard to letter case.
    """
    poses = {row.xray: row.pose for row in sorted(case.rows, key=lambda row: (str(row.xray), row.side), reverse=True)}
    names: dict[Path, str] = {}
    for path in sorted(case.xrays, key=str):
        stem = make_safe_name(poses[path] if anonymous else path.stem)
        names[path] = make_unique_name(stem, names.values(), separator="-")
    return names


def shorten_names(patient_id: str, names: Iterable[str]) -> dict[str, str]:
    """The radiographs' names without the patient's identifier in front, when all of them stay unique so."""
    full = list(names)
    short = {name: _without(patient_id, name) for name in full}
    unique = len({name.casefold() for name in short.values()}) == len(full)
    return short if unique else {name: name for name in full}


def pair_id(patient_id: str, short_name: str, side: Side) -> str:
    """`<patient>__<xray>__<side>`; no other patient, radiograph or side makes the same."""
    return f"{patient_id}__{short_name}__{side}"


def _without(patient_id: str, name: str) -> str:
    rest = name[len(patient_id) :].lstrip("_-.") if name.startswith(patient_id) else ""
    return rest or name
