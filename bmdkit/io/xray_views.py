"""Which radiographs are frontal views of a hip, as their tags tell, and whether their size fits their pixel spacing."""

from __future__ import annotations

import re
from typing import NamedTuple

from bmdkit.io.dicom_header import RadiographTags

FRONTAL_CODES = frozenset({"R-10202", "R-10206", "R-10214"})
"""Frontal, antero-posterior and postero-anterior. Source: DICOM PS3.16, context group 4010, DX View."""
_VIEW_CODE = re.compile(r"R-102\d\d")
_OTHER_VIEWS = frozenset(
    [
        "LL",
        "RL",
        "LLD",
        "RLD",
        "LLO",
        "RLO",
        "LATERAL",
        "LAT",
        "ML",
        "LM",
        "MLO",
        "LMO",
        "RPO",
        "LPO",
        "RAO",
        "LAO",
        "OBL",
        "OBLIQUE",
        "AX",
        "AXIAL",
        "AXIOLATERAL",
        "XTABLE",
        "FROG",
        "FROGLEG",
        "LAUENSTEIN",
        "DUNN",
        "INLET",
        "OUTLET",
        "JUDET",
        "SAGITTAL",
        "TANGENTIAL",
        "TANG",
        "SUNRISE",
        "SKYLINE",
        "TRANSVERSE",
        "CC",
        "PROFILE",
        "LOWENSTEIN",
        "ROSENBERG",
    ]
)
"""Words of a view that is not frontal."""
_HIP_PARTS = ("HIP", "PELVI", "FEMUR", "FEMORAL", "ABDOMEN", "LEG", "EXTREMIT", "LIMB", "WHOLEBODY", "COXA")
_OTHER_PARTS = [
    "CHEST",
    "THORAX",
    "RIB",
    "STERNUM",
    "LUNG",
    "HEART",
    "HEAD",
    "SKULL",
    "BRAIN",
    "FACE",
    "ORBIT",
    "SINUS",
    "JAW",
    "MANDIBLE",
    "TOOTH",
    "TEETH",
    "NECK",
    "SPINE",
    "SHOULDER",
    "CLAVICLE",
    "SCAPULA",
    "ARM",
    "HUMERUS",
    "ELBOW",
    "WRIST",
    "HAND",
    "FINGER",
    "THUMB",
    "KNEE",
    "PATELLA",
    "TIBIA",
    "FIBULA",
    "ANKLE",
    "FOOT",
    "TOE",
    "CALCANEUS",
    "HEEL",
    "BREAST",
]
OTHER_VIEW = "BMD-XR-019"
"""Code of a radiograph that is no frontal view."""
SIZE_TOLERANCE = 0.06
"""How far the image's size may lie from the field of view: dimensions are rounded to millimetres, borders are cut."""
ASPECT_TOLERANCE = 0.03


class Unfit(NamedTuple):
    """Why a radiograph is not what is to be measured."""

    code: str
    message: str


def find_other_view(tags: RadiographTags) -> Unfit | None:
    """The reason why the tags name no frontal view of a hip, or None.

    Args:
        tags: From the header.
    """
    named = " ".join((tags.view_position, *tags.view_meanings)).upper()
    words = set(re.findall(r"[A-Z]+", named))
    other = sorted(words & _OTHER_VIEWS)
    frontal = {"AP", "PA", "FRONTAL", "ANTEROPOSTERIOR", "POSTEROANTERIOR"} & words
    if other and not (frontal and other == ["AX"]):
        return Unfit(OTHER_VIEW, f"view {' '.join(named.split())[:32]}.")
    codes = [code for code in tags.view_codes if _VIEW_CODE.fullmatch(code) and code not in FRONTAL_CODES]
    if codes:
        return Unfit(OTHER_VIEW, f"view code {codes[0]}.")
    if is_other_body_part(tags.body_part):
        return Unfit("BMD-XR-024", f"body part {tags.body_part[:16]}.")
    return None


def is_other_body_part(body_part: str) -> bool:
    """Whether BodyPartExamined, upper case, names a part that shows no hip; False where nothing tells."""
    part = re.sub(r"[^A-Z]", "", body_part)
    return not any(name in part for name in _HIP_PARTS) and any(name in part for name in _OTHER_PARTS)


def find_resampling(
    tags: RadiographTags, shape: tuple[int, int], spacing_mm: tuple[float, float] | None
) -> Unfit | None:
    """The reason why an image seems to have been resampled without its spacing, or None.

    An image that was cut to a part of its field of view is smaller in one side than in the other; one that was
    resampled is larger than the field of view, or smaller by one factor in both sides.

    Args:
        tags: From the header.
        shape: (rows, columns).
        spacing_mm: Between columns, between rows; None where it is not known.
    """
    field = tags.field_of_view_mm
    if spacing_mm is None or len(field) not in (1, 2) or min(field) <= 0:
        return None
    size = sorted((shape[0] * spacing_mm[1], shape[1] * spacing_mm[0]))
    expected = sorted((field[0], field[-1]))
    low, high = sorted(a / b for a, b in zip(size, expected, strict=True))
    is_larger = high > 1 + SIZE_TOLERANCE
    is_smaller_alike = high < 1 - SIZE_TOLERANCE and high - low <= ASPECT_TOLERANCE * high
    if not (is_larger or is_smaller_alike):
        return None
    return Unfit(
        "BMD-XR-026",
        f"rows and columns times spacing give {size[0]:.0f} x {size[1]:.0f} mm, the field of view is "
        f"{expected[0]:.0f} x {expected[1]:.0f} mm.",
    )
