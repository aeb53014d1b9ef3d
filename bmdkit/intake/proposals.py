"""Which hips a radiograph shows and in which pose, as far as its header and its image tell."""

from __future__ import annotations

import re
from pathlib import Path

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.errors import CaseError
from bmdkit.image_content.hip_count import find_single_hip
from bmdkit.image_content.image_area import find_image_area
from bmdkit.intake.header_scan import ScannedFile
from bmdkit.io.dicom_xray import read_thumbnail
from bmdkit.io.xray_settings import XrayConfig

POSE_CODES = {
    "F-10440": "standing",
    "F-10320": "standing",
    "F-10340": "supine",
    "10904000": "standing",
    "40199007": "supine",
}
"""Erect, standing and supine. Source: DICOM PS3.16, context groups 19 and 20, in SNOMED RT and in SNOMED CT."""
POSE_WORDS = {
    "abduction": ("abduction", "abducted", "abduktion", "外転"),
    "adduction": ("adduction", "adducted", "adduktion", "内転"),
    "standing": (
        *("standing", "stand", "erect", "upright", "weight bearing", "weightbearing", "weight-bearing", "wb"),
        *("stehend", "im stehen", "debout", "en charge", "bipedestacion", "立位", "荷重"),
    ),
    "supine": ("supine", "recumbent", "lying", "liegend", "im liegen", "couche", "decubitus", "臥位", "仰臥位"),
}
"""Words of a description that name a pose; the first pose of this order that is named is meant."""
SIDE_WORDS: dict[Side, tuple[str, ...]] = {
    "L": ("left", "lt", "links", "linke", "linkes", "gauche", "izquierda", "sinistra", "左"),
    "R": ("right", "rt", "rechts", "rechte", "rechtes", "droite", "derecha", "destra", "右"),
}
BOTH_WORDS = (
    *("pelvis", "pelvic", "both hips", "both", "bilateral", "becken", "beckenuebersicht", "bassin", "pelvi", "bacino"),
    *("骨盤", "両股", "両側"),
)
"""Words of a description or of BodyPartExamined that name one hip, or a frontal pelvis with two."""
_NEGATED = ("non weight", "non-weight", "nonweight", "nwb", "without weight")
_LONGEST_SIDE = 320


def propose_pose(file: ScannedFile) -> str | None:
    """The pose that a header names, by its codes, its descriptions or PatientPosition; None where nothing tells.

    Args:
        file: A radiograph.
    """
    named = _find_named_pose(file.description)
    if named in ("abduction", "adduction"):
        return named
    coded = {POSE_CODES[code] for code in file.orientation_codes if code in POSE_CODES}
    if len(coded) == 1:
        return coded.pop()
    if named is None and re.fullmatch(r"(HF|FF)S", file.position):
        return "supine"
    return named


def _find_named_pose(description: str) -> str | None:
    text = description.casefold()
    for word in _NEGATED:
        text = text.replace(word, " ")
    for pose, words in POSE_WORDS.items():
        if any(_holds(text, word) for word in words):
            return pose
    return None


def _holds(text: str, word: str) -> bool:
    """Whether a text holds a word; words of scripts without blanks may stand anywhere."""
    if not word.isascii():
        return word in text
    return re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text) is not None


def look_for_hips(path: Path, config: XrayConfig) -> tuple[Side, ...] | None:
    """Which hips the image of a radiograph shows; None if it shows one and does not tell which.

    Args:
        path: A DICOM radiograph.
        config: How it is read.

    Raises:
        CaseError: It cannot be used.
    """
    image = read_thumbnail(path, config, _LONGEST_SIDE)
    if image.hidden.all():
        return None
    mask = find_image_area(image.values, ~image.hidden, borders=config.mask_borders, markers=config.mask_markers)
    spacing_mm = image.facts.spacing_mm
    single = find_single_hip(image.values, mask, None if spacing_mm is None else spacing_mm[0])
    if single is None:
        return SIDES
    return None if single.side is None else (single.side,)


def look_for_hips_safely(path: Path, config: XrayConfig) -> tuple[Path, tuple[Side, ...] | None, str]:
    """As `look_for_hips`, with the path in front and what is wrong with the file behind."""
    try:
        return path, look_for_hips(path, config), ""
    except CaseError as error:
        return path, None, f"{error.code}: {error.message}"


def propose_sides(file: ScannedFile) -> tuple[Side, ...] | None:
    """The hips that a header names: by its laterality, the part of the body, or one side in its descriptions.

    Args:
        file: A radiograph.

    Returns:
        One side or both; None where only the image can tell.
    """
    if file.laterality in SIDES:
        return tuple(side for side in SIDES if side == file.laterality)
    text = f"{file.description} {file.body_part}".casefold()
    if file.laterality == "B" or any(_holds(text, word) for word in BOTH_WORDS):
        return SIDES
    named = tuple(side for side in SIDES if any(_holds(text, word) for word in SIDE_WORDS[side]))
    return named if len(named) == 1 else None
