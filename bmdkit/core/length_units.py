"""Units of length of volume files, and what MetaImage and NRRD headers say about where their voxels lie."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bmdkit.errors import CaseError

NIFTI_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Code of xyzt_units -> mm: not said (taken as mm), metre, millimetre, micron."""

_NAMED_MM = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("dm", "decimeter", "decimetre"), 100.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers"), 0.001),
    **dict.fromkeys(("micrometre", "micrometres"), 0.001),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-6),
    **dict.fromkeys(("in", "inch", "inches"), 25.4),
}
VOXEL_RANGE_MM = (0.005, 50.0)
"""What a side of a voxel may measure; a size beyond shows a unit that is not the one that the file names."""
_LONGEST_HEADER = 1 << 20
_SPACES = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
_SHORT_SPACES = ("ras", "las", "lps")


class GeometryTextError(Exception):
    """What a header says about its voxels' places does not do; `code` says in which way."""

    def __init__(self, code: str, message: str) -> None:
        """Make the error of a code and a message."""
        super().__init__(message)
        self.code = code


def require_voxel_size(spacing_mm: np.ndarray, *, case: str | None = None, file: str | None = None) -> None:
    """Make sure that voxels are as large as those of a scan of a body.

    Raises:
        CaseError: They are not (BMD-CT-026).
    """
    low, high = VOXEL_RANGE_MM
    if not ((spacing_mm >= low) & (spacing_mm <= high)).all():
        size = " x ".join(f"{value:g}" for value in spacing_mm)
        raise CaseError("BMD-CT-026", f"{size} mm, allowed {low:g} to {high:g} mm.", case=case, file=file)


def read_scale_mm(path: Path) -> float:
    """Find how long a unit of a MetaImage's or NRRD's spacing and origin is, mm.

    Raises:
        GeometryTextError: The header does not say where the voxels lie (BMD-CT-007), or its unit is not known
            (BMD-CT-025).
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(_LONGEST_HEADER)
    except OSError:
        return 1.0  # its reader says why
    return _scale_of_nrrd(head) if head.startswith(b"NRRD") else _scale_of_metaimage(head)


def _scale_of_metaimage(head: bytes) -> float:
    text = re.split(rb"(?im)^\s*ElementDataFile\s*=", head)[0].decode("latin-1")
    fields = {
        key.strip().lower(): value.strip() for key, _, value in (line.partition("=") for line in text.split("\n"))
    }
    if "ndims" not in fields:
        return 1.0  # no MetaImage at all, which its reader says
    if not {"elementspacing", "elementsize"} & set(fields):
        raise GeometryTextError("BMD-CT-007", "its header has no ElementSpacing")
    if not {"offset", "position", "origin"} & set(fields):
        raise GeometryTextError("BMD-CT-007", "its header has no Offset")
    return _to_mm(fields.get("distanceunits", "mm"))


def _scale_of_nrrd(head: bytes) -> float:
    text = re.split(rb"\r?\n\r?\n", head)[0].decode("utf-8", "replace")
    fields = {}
    for line in text.splitlines():
        if not line.startswith("#") and ": " in line and ":=" not in line.split(": ")[0]:
            key, _, value = line.partition(":")
            fields[key.strip().lower()] = value.strip()
    space = fields.get("space", "").lower()
    if space not in (*_SPACES, *_SHORT_SPACES):
        stated = f"space {space[:40]!r}" if space else "no space"
        raise GeometryTextError("BMD-CT-007", f"its header has {stated}, expected one of {', '.join(_SPACES)}")
    for name in ("space directions", "space origin"):
        if name not in fields:
            raise GeometryTextError("BMD-CT-007", f"its header has no {name!r}")
    units = re.findall(r'"([^"]*)"', fields.get("space units", "")) or ["mm"]
    scales = {_to_mm(unit) for unit in units}
    if len(scales) != 1:
        raise GeometryTextError("BMD-CT-025", f"its axes have several units: {', '.join(units)[:40]}")
    return scales.pop()


def _to_mm(unit: str) -> float:
    """Length of a unit, mm; one that is not said is a millimetre."""
    scale = _NAMED_MM.get(unit.strip().lower(), 1.0 if unit.strip() in ("", "?", "???", "none") else None)
    if scale is None:
        raise GeometryTextError("BMD-CT-025", f"unit {unit[:20]!r}, expected mm, um, cm or m")
    return scale
