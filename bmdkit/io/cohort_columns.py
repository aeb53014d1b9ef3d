"""The columns of a cohort's table and the words of its poses: what they are called, and what is nearly one of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from bmdkit.core.case import VIEW_GROUP

REQUIRED = ("patient_id", "ct", "xray", "side")
OPTIONAL = ("pose", "landmarks", "labels", "dxa_bmd", "qct_bmd", "calibration")
FILES = ("ct", "xray", "landmarks", "labels", "calibration")
CARRIED_WITH_A_MEANING = ("fold", VIEW_GROUP)
"""Columns that are carried and that a build reads nevertheless."""

KNOWN = (*REQUIRED, *OPTIONAL, *CARRIED_WITH_A_MEANING)
"""All columns that have a meaning."""

POSES = ("standing", "supine", "abduction", "adduction", "unknown")
"""Words of the column `pose` that are known; any other word is carried too."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "patient_id": (
        *("patient", "patient_no", "patient_number", "patient_code", "pid", "id", "subject", "subject_id"),
        *("participant", "participant_id", "person_id", "case", "case_id", "mrn"),
    ),
    "ct": ("ct_scan", "ct_image", "ct_volume", "ct_series", "scan", "computed_tomography"),
    "xray": ("xray_image", "radiograph", "radiography", "roentgen", "plain_film", "film", "xr", "dx", "cr", "drx"),
    "side": ("laterality", "hip", "hip_side", "target_side", "body_side", "leg", "left_right", "l_r"),
    "pose": ("posture", "position", "patient_position", "body_position", "stance"),
    "landmarks": ("markup", "fiducial", "point", "key_point", "landmark_point", "control_point"),
    "labels": (
        *("label_map", "segmentation", "segmentation_map", "segmentation_mask", "seg", "mask", "label_mask"),
        *("annotation", "contour", "ground_truth", "expert_label"),
    ),
    "dxa_bmd": (
        *("dxa", "dexa", "dexa_bmd", "bmd", "bmd_dxa", "bmd_dexa", "abmd", "areal_bmd", "bmd_g_cm2", "dxa_bmd_g_cm2"),
        *("dxa_abmd", "hip_bmd", "bmd_hip", "dxa_hip_bmd", "dxa_value", "dxa_result"),
    ),
    "qct_bmd": (
        *("qct", "vbmd", "bmd_qct", "qct_vbmd", "volumetric_bmd", "ct_bmd", "bmd_ct", "bmd_mg_cm3", "qct_bmd_mg_cm3"),
        *("vbmd_mg_cm3", "hip_vbmd", "qct_value", "qct_result"),
    ),
    "calibration": ("calib", "cal", "calibration_line", "hu_calibration", "bmd_calibration"),
    VIEW_GROUP: ("view_set", "views", "biplane_group", "group_of_views"),
    "fold": ("cv_fold", "fold_id", "fold_number", "fold_no"),
}
"""Other names for the columns, which a user may have given them in good faith; case, plural and blanks do not count."""

_FILE_WORDS = ("path", "file", "filename", "folder", "dir", "directory", "json", "nifti", "dicom")
_TYPING_ERROR = 0.83  # of `difflib`'s ratio: one letter more, less, or two that changed places, in six or more
_SHORTEST_TYPED = 6


@dataclass(frozen=True)
class NearColumn:
    """A column of a table that is nearly a known one.

    Attributes:
        given: Name in the table.
        meant: Name that it is near to.
        certain: Whether it is the known name, or a synonym of it, in other letters; else it may be a typing error.
    """

    given: str
    meant: str
    certain: bool = True


def find_near_columns(header: Sequence[str], known: Sequence[str] = KNOWN) -> list[NearColumn]:
    """Find the columns whose names are near a known one, so that they would be carried although they were meant.

    A synonym counts only where the known column itself is absent: beside `dxa_bmd`, a column `bmd` is another value.

    Args:
        header: Names of all columns, without blanks around them.
        known: Columns that have a meaning.

    Returns:
        Each column that is near a known one and is not it.

    Example:
        >>> [(near.given, near.meant) for near in find_near_columns(["Patient ID", "ct", "sex", "dxa"])]
        [('Patient ID', 'patient_id'), ('dxa', 'dxa_bmd')]
    """
    found = []
    for name in header:
        if not name or name in KNOWN:
            continue
        meant = next((own for own in known if _spelled_alike(name, own)), None)
        if meant is None:
            meant = next((own for own in known if own not in header and _is_synonym(name, own)), None)
        if meant is not None:
            found.append(NearColumn(name, meant))
        elif typed := _find_typing_error(name, [own for own in known if own not in header]):
            found.append(NearColumn(name, typed, certain=False))
    return found


def find_near_pose(word: str) -> str | None:
    """Find the known pose that an unknown word is near to.

    Example:
        >>> find_near_pose("supin"), find_near_pose("Standing"), find_near_pose("frog-leg")
        ('supine', 'standing', None)
    """
    if not word or word in POSES:
        return None
    key = _key(word)
    alike = [pose for pose in POSES if key == _key(pose) or (len(key) >= 3 and pose.startswith(key))]
    others = {"stand": "standing", "upright": "standing", "erect": "standing", "weightbearing": "standing"}
    others |= {"lying": "supine", "recumbent": "supine", "abducted": "abduction", "adducted": "adduction"}
    if len(alike) == 1:
        return alike[0]
    if key in others:
        return others[key]
    return next(iter(get_close_matches(key, POSES, n=1, cutoff=0.8)), None)


def _key(name: str) -> str:
    """The letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case, without the s of their plural; words are ended by case, blanks and signs."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return tuple(_singular(word) for word in re.split(r"[\W_]+", parted.casefold()) if word)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def _spelled_alike(name: str, other: str) -> bool:
    """Whether two names are equal after case, plural, blanks and signs."""
    return _singular(_key(name)) == _singular(_key(other)) or _words(name) == _words(other)


def _is_synonym(name: str, known: str) -> bool:
    """Whether a name is in the list for a known column, or is the known name of a file with a word such as `path`."""
    if any(_spelled_alike(name, other) for other in SYNONYMS.get(known, ())):
        return True
    words = _words(name)
    if known not in FILES or len(words) < 2 or words[-1] not in _FILE_WORDS:
        return False
    stem = "_".join(words[:-1])
    return any(_spelled_alike(stem, other) for other in (known, *SYNONYMS.get(known, ())))


def _find_typing_error(name: str, known: Collection[str]) -> str | None:
    key = _key(name)
    if len(key) < _SHORTEST_TYPED:
        return None
    keys = {_key(own): own for own in known if len(_key(own)) >= _SHORTEST_TYPED}
    match = get_close_matches(key, list(keys), n=1, cutoff=_TYPING_ERROR)
    return keys[match[0]] if match else None
