"""Points of 3D Slicer: .mrk.json and .fcsv, LPS or RAS as the file says."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import LANDMARKS, Side, require_side
from bmdkit.core.landmarks import Landmarks
from bmdkit.errors import CaseError
from bmdkit.io.results import write_json, write_text

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_SIGNS = {"LPS": (1.0, 1.0, 1.0), "1": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0), "0": (-1.0, -1.0, 1.0)}
_Found = tuple[str, object, list[float]]  # label, coordinate system, position
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def read_points(path: str | Path, *, case: str | None = None) -> dict[str, np.ndarray]:
    """Read every defined point of a markups file.

    Args:
        path: .mrk.json (or .json) or .fcsv.
        case: Identifier of the patient, for the message of an error.

    Returns:
        Label -> (3,), LPS, mm.

    Raises:
        CaseError: The file cannot be read, does not say LPS or RAS, or names a point twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = list(_read_fcsv(text)) if path.suffix.lower() == ".fcsv" else list(_read_json(text))
        points: dict[str, np.ndarray] = {}
        for label, system, position in found:
            if str(system).upper() not in _SIGNS:
                raise CaseError(
                    "BMD-MRK-002", f"coordinate system {system!r}, expected LPS or RAS.", case=case, file=path.name
                )
            point = np.array(position, float) * _SIGNS[str(system).upper()] + 0.0
            if point.shape != (3,) or not np.isfinite(point).all():
                raise ValueError(f"point {label!r} is {position!r}")
            if label in points:
                raise ValueError(f"point {label!r} is there twice")
            points[label] = point
        return points
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, csv.Error) as error:
        raise CaseError("BMD-MRK-001", f"not readable as markups ({error}).", case=case, file=path.name) from error


def read_landmarks(path: str | Path, side: Side, *, case: str | None = None) -> Landmarks:
    """Read the landmarks of one hip.

    Names may be in any case and have blanks or hyphens; points of other names are left out.

    Args:
        path: A .mrk.json or .fcsv file of 3D Slicer, LPS or RAS as the file says, mm.
        side: L or R, the patient's own.
        case: Identifier of the patient, for the message of an error.

    Example:
        >>> read_landmarks("cohort/landmarks/sim000_L.mrk.json", "L")
        Landmarks(L, 8 of 8 points)

    Returns:
        The landmarks that the file has, LPS, mm.

    Raises:
        ValueError: The side is neither L nor R.
        CaseError: As `read_points`, or none of the eight names is there.
    """
    require_side(side)
    points: dict[str, np.ndarray] = {}
    for label, point in read_points(path, case=case).items():
        name = re.sub(r"[\s-]+", "_", label.strip().lower()).replace("centre", "center")
        name = re.sub(rf"(^{side.lower()}_|_{side.lower()}$)", "", name)
        if name in LANDMARKS:
            if name in points:
                raise CaseError("BMD-MRK-001", f"point {name} is there twice.", case=case, file=Path(path).name)
            points[name] = point
    if not points:
        raise CaseError("BMD-MRK-003", f"none of {', '.join(LANDMARKS)}.", case=case, file=Path(path).name)
    return Landmarks(side, points)


def write_landmarks(path: Path, landmarks: Landmarks) -> None:
    """Write .mrk.json (or .fcsv), LPS, mm, as 3D Slicer opens it."""
    write_points(path, landmarks.points_mm)


def write_points(path: Path, points_mm: Mapping[str, np.ndarray]) -> None:
    """Write points of any names as .mrk.json (or .fcsv), as 3D Slicer opens it.

    Args:
        path: File to be written.
        points_mm: Name -> (3,), LPS, mm.
    """
    points = {name: [round(float(v), 4) + 0.0 for v in point] for name, point in points_mm.items()}
    if Path(path).suffix.lower() == ".fcsv":
        lines = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS", f"# columns = {_FCSV_COLUMNS}"]
        lines += [f"{n},{x},{y},{z},0,0,0,1,1,1,0,{name},," for n, (name, (x, y, z)) in enumerate(points.items(), 1)]
        write_text(path, "\n".join(lines) + "\n")
        return
    control = [
        {"id": str(n), "label": name, "position": position, "positionStatus": "defined"}
        for n, (name, position) in enumerate(points.items(), 1)
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": control}
    write_json(path, {"@schema": _SCHEMA, "markups": [markup]})


def _read_json(text: str) -> Iterator[_Found]:
    for markup in json.loads(text)["markups"]:
        if markup.get("coordinateUnits", "mm") not in ("mm", ["mm", "UCUM", "millimeter"]):
            raise ValueError(f"coordinate units {markup['coordinateUnits']!r}, expected mm")
        for point in markup.get("controlPoints", []):
            if point.get("positionStatus", "defined") == "defined":
                yield str(point["label"]), markup.get("coordinateSystem"), point["position"]


def _read_fcsv(text: str) -> Iterator[_Found]:
    system: str | None = None
    columns = _FCSV_COLUMNS.split(",")
    for line in text.splitlines():
        if line.startswith("#"):
            key, _, value = line[1:].partition("=")
            if key.strip() == "CoordinateSystem":
                system = value.strip()
            elif key.strip() == "columns":
                columns = [name.strip() for name in value.split(",")]
        elif line.strip():
            cells = dict(zip(columns, next(csv.reader([line])), strict=False))
            yield cells["label"], system, [float(cells[axis]) for axis in "xyz"]
