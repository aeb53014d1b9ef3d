"""Coded words of what bmdkit measures; those that DICOM and SNOMED have none for are of a scheme of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from bmdkit import __version__
from bmdkit.core.anatomy import Side

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

MANUFACTURER, MODEL = "bmdkit", "bmdkit"
SCHEME = "99BMDKIT"
"""Coding scheme of bmdkit's own words; its name begins with 99, as DICOM wants of a private one."""

Word = Literal[
    "pf-density",
    "dxa-bmd",
    "qct-bmd",
    "dxa-low",
    "dxa-high",
    "qct-low",
    "qct-high",
    "quality",
    "accept",
    "review",
    "reject",
    "intended-use",
    "research",
    "simulated",
    "axial",
]

_MEANINGS: dict[Word, str] = {
    "pf-density": "Projected areal density of the proximal femur",
    "dxa-bmd": "DXA-BMD of the proximal femur, estimated from a radiograph",
    "qct-bmd": "QCT-BMD of the proximal femur, estimated from a radiograph",
    "dxa-low": "DXA-BMD, lower end of the 90 % prediction interval",
    "dxa-high": "DXA-BMD, upper end of the 90 % prediction interval",
    "qct-low": "QCT-BMD, lower end of the 90 % prediction interval",
    "qct-high": "QCT-BMD, upper end of the 90 % prediction interval",
    "quality": "Quality of the estimate",
    "accept": "Accept",
    "review": "Review",
    "reject": "Reject",
    "intended-use": "Intended use",
    "research": "For research. Not for diagnosis.",
    "simulated": "Simulated training only; not for patients",
    "axial": "Sacrum and spine",
}

_STRUCTURES = {
    "pelvis": ("118645006", "Pelvis"),
    "femur": ("71341001", "Femur"),
    "proximal_femur": ("310651003", "Proximal femur"),
}
_ANY_BONE = ("272673000", "Bone")


def make_code(word: Word) -> Code:
    """The code of one of bmdkit's own words.

    Example:
        >>> make_code("review").meaning
        'Review'
    """
    from pydicom.sr.coding import Code

    return Code(word, SCHEME, _MEANINGS[word])


def code_category() -> Code:
    """The code of the category that all segments belong to."""
    from pydicom.sr.codedict import codes

    return codes.SCT.AnatomicalStructure


def code_structure(name: str) -> tuple[Code, Code | None]:
    """The code of a structure, and of its side where it has one.

    Args:
        name: A structure of ours, the proximal femur of a side, or any other name, which stands for a bone.

    Example:
        >>> [code.meaning for code in code_structure("femur_L")]
        ['Femur', 'Left']
    """
    from pydicom.sr.coding import Code

    side = name[-1] if name.endswith(("_L", "_R")) else None
    if name == "axial":
        return make_code("axial"), None
    value, meaning = _STRUCTURES.get(name[:-2] if side else name, _ANY_BONE)
    return Code(value, "SCT", meaning), None if side is None else code_side("L" if side == "L" else "R")


def code_unit(unit: str) -> Code:
    """The UCUM code of a unit, such as g/cm2, which UCUM spells alike."""
    from pydicom.sr.coding import Code

    return Code(unit, "UCUM", unit)


def code_side(side: Side) -> Code:
    """The code of a side of the body."""
    from pydicom.sr.codedict import codes

    return codes.SCT.Left if side == "L" else codes.SCT.Right


class AlgorithmWords(NamedTuple):
    """What identifies an algorithm: its name, its version, and its parameters in words."""

    name: str
    version: str
    parameters: list[str]


def describe_algorithm(name: str, sha256: str) -> AlgorithmWords:
    """What identifies the algorithm of a result.

    Args:
        name: Name of the network or the run.
        sha256: Digest of the files that its results come from.
    """
    return AlgorithmWords(f"bmdkit: {name}"[:64], __version__, [f"SHA-256 {sha256}"])
