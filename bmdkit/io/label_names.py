"""Which structure a name in a label map stands for, by whichever tool it was given; nearly right is never nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

_SIDES = {"l": "L", "left": "L", "lt": "L", "r": "R", "right": "R", "rt": "R"}
_PELVIS = ("pelvis", "hip", "hipbone", "hip bone", "pelvic bone", "coxal bone", "os coxae", "innominate bone")
_SPINE = ("spine", "lumbar spine", "vertebra", "vertebrae", "lumbar vertebra")
_FEMUR = ("femur", "femur bone", "thigh bone")
_BONES = {
    **dict.fromkeys(_PELVIS, "pelvis"),
    **dict.fromkeys(("axial", "axial skeleton", "sacrum", "coccyx", *_SPINE), "axial"),
    **dict.fromkeys(_FEMUR, "femur"),
}
_LEVEL = re.compile(r"l[1-6]|t([1-9]|1[0-3])|s[1-5]")
"""Vertebrae that a scan of the hips may show."""
_SINGULAR = {"hips": "hip", "bones": "bone", "femurs": "femur", "femora": "femur", "vertebras": "vertebra"}
_OF_NO_MEANING = frozenset(("label", "mask", "segment", "segmentation", "seg", "roi", "the"))
_SPELLINGS = ("pelvis", "femurleft", "femurright", "femurl", "femurr", "axial", "sacrum", "hipleft", "hipright")
_NEAR = 0.85  # of `difflib`'s ratio: one letter in six
_SHORTEST_NEAR = 4


def find_structure(name: str) -> str | None:
    """Find the structure of `anatomy.STRUCTURES` that a name stands for; None if it is no bone of ours.

    Case, blanks, hyphens and the place of the side do not count.

    Args:
        name: Name in bmdkit's words, TotalSegmentator's, or those of a terminology of DICOM.

    Example:
        >>> [find_structure(name) for name in ("Femur_R", "hip left", "vertebrae_L5", "RightFemur", "liver")]
        ['femur_R', 'pelvis', 'axial', 'femur_R', None]
    """
    words = _split(name)
    sides = {_SIDES[word] for word in words if word in _SIDES}
    bones = [word for word in words if word not in _SIDES]
    if bones and bones[0] in ("vertebra", "vertebrae"):
        bones = [word for word in bones if not _LEVEL.fullmatch(word)] if len(bones) <= 2 else bones
    bone = _BONES.get(" ".join(bones))
    if bone == "femur":
        return f"femur_{sides.pop()}" if len(sides) == 1 else None
    return bone


def find_near_structures(name: str) -> tuple[str, ...]:
    """Find the structures that a name which stands for none is near to, so that it may have been meant.

    Example:
        >>> find_near_structures("femr_R"), find_near_structures("femur"), find_near_structures("liver")
        (('femur_R',), ('femur_L', 'femur_R'), ())
    """
    words = _split(name)
    sides = sorted({_SIDES[word] for word in words if word in _SIDES})
    near: dict[str, None] = {}
    if "femur" in words:
        near |= {f"femur_{side}": None for side in sides or "LR"}
    near |= {bone: None for word, bone in _BONES.items() if word in ("pelvis", "axial", "sacrum") and word in words}
    key = "".join(sorted(words, key=_SIDES.__contains__))  # the side last
    if len(key) >= _SHORTEST_NEAR:
        for spelling in _SPELLINGS:
            if SequenceMatcher(None, key, spelling).ratio() >= _NEAR and (meant := _meant_by(spelling)):
                near[meant] = None
    return tuple(near)


def assign_structures(names: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Assign a structure to each value of a label map that stands for one.

    Args:
        names: Value -> its names, the best first.

    Returns:
        Value -> structure; values of other tissue are left out.

    Raises:
        ValueError: A name is near to a structure that no value stands for; it says which.

    Example:
        >>> assign_structures({1: ["Pelvis"], 2: ["left femur"], 5: ["liver"]})
        {1: 'pelvis', 2: 'femur_L'}
    """
    found = {}
    for value, given in names.items():
        structure = next(filter(None, map(find_structure, given)), None)
        if structure is not None:
            found[value] = structure
    named = set(found.values())
    for value, given in names.items():
        if value in found or not given:
            continue
        missing = [structure for structure in find_near_structures(given[0]) if structure not in named]
        if missing:
            raise ValueError(f"{given[0]!r} (value {value}) is not known: did you mean {' or '.join(missing)}?")
    return found


def _split(name: str) -> list[str]:
    """The words of a name in lower case, without those that say nothing."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [_SINGULAR.get(word, word) for word in re.split(r"[\W_]+", parted.casefold()) if word]
    return [word for word in words if word not in _OF_NO_MEANING]


def _meant_by(spelling: str) -> str | None:
    """The structure of one of `_SPELLINGS`, whose words are not parted."""
    for bone in ("femur", "hip"):
        if spelling.startswith(bone):
            return find_structure(f"{bone} {spelling[len(bone) :]}")
    return find_structure(spelling)
