"""Names of radiographs and pairs in the output: safe in any file system, unique, and the same whatever the order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bmdkit.core.anatomy import Side
from bmdkit.core.case import Case
from bmdkit.core.naming import make_safe_name, make_unique_name


def xray_names(case: Case, *, anonymous: bool = False) -> dict[Path, str]:
    """A name per radiograph of a case: its file's stem, or its pose when file names must not be shown.

    Only letters, digits, '.', '-' and single '_' between them; unique in the case without regard to letter case.
    """
    poses = {row.xray: row.pose for row in sorted(case.rows, key=lambda row: (str(row.xray), row.side), reverse=True)}
    names: dict[Path, str] = {}
    for path in sorted(case.xrays, key=str):
        stem = make_safe_name(poses[path] if anonymous else path.stem)
        names[path] = make_unique_name(stem, names.values(), separator="-")
    return names


def short_names(patient_id: str, names: Iterable[str]) -> dict[str, str]:
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
