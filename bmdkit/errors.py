"""Errors that a patient's data or a user's set-up can cause, each with a stable code.

A caller's mistake in Python raises ValueError or TypeError. What a hospital's data, a cohort or a machine can do
wrong raises a `BmdkitError`, which carries a code of `CODES`; docs/errors.md is made from the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["quarantine", "failed", "flag", "exit 4", "exit 5", "exit 6"]


@dataclass(frozen=True)
class Code:
    """What one code means: its cause, what becomes of the case or the run, and what the user can do."""

    cause: str
    remedy: str
    outcome: Outcome = "quarantine"


CODES: dict[str, Code] = {
    "BMD-CAL-001": Code(
        "No calibration phantom was found in the CT.",
        "Give the rods' places or a calibration.json, choose calibration.mode phantomless or none, or name the phantom.",
    ),
    "BMD-CAL-002": Code(
        "The rods do not lie on a line: their HU do not fit the known densities.",
        "Check that the right phantom is named, and look at the rods on the calibration picture.",
    ),
    "BMD-CAL-003": Code("A rod whose place was given lies outside the CT.", "Correct the place: LPS of the CT, in mm."),
    "BMD-CAL-004": Code(
        "The calibration file is unreadable or lacks a value.",
        "Write it with `bmdkit calibrate`, or correct the named key.",
    ),
    "BMD-CAL-005": Code(
        "The scan does not show enough air, fat and muscle for a calibration without a phantom.",
        "Give a calibration.json of the same scanner and protocol, or choose calibration.mode none.",
    ),
    "BMD-PF-001": Code("A landmark of the proximal femur is missing.", "Place all eight points in the landmark file."),
    "BMD-PF-002": Code(
        "No femur between the head-neck junction and the level of shaft_2cm.",
        "Check that labels and landmarks belong to this CT and side.",
    ),
    "BMD-PF-003": Code("The proximal femur reaches out of the CT.", "The scan is too short for this hip."),
    "BMD-LBL-001": Code(
        "The label map has no voxel of ours.", "Check its side-car of names; pelvis and femurs are needed."
    ),
    "BMD-LBL-002": Code("A structure that is needed is empty.", "Draw it, or leave this case out."),
    "BMD-LBL-003": Code(
        "The labels do not lie on the CT's bones.", "Check that the label map was drawn on this very series."
    ),
    "BMD-LBL-004": Code(
        "Left and right femur cannot be told apart.", "Correct the labels: one femur on each side of the pelvis."
    ),
    "BMD-LMK-001": Code(
        "The landmarks cannot be found in the femur's mask.", "Place them in 3D Slicer and give the file.", "flag"
    ),
    "BMD-LMK-002": Code(
        "A landmark comes from a fall-back, not from the bone itself.", "Look at it, and correct it if need be.", "flag"
    ),
    "BMD-LMK-003": Code(
        "The landmarks given do not lie on this femur.", "Check side and frame of the landmark file.", "flag"
    ),
    "BMD-HIP-001": Code("A metal implant at the hip.", "This hip is left out of the BMD values.", "flag"),
    "BMD-HIP-002": Code(
        "The scan ends above the distal cut of the proximal femur.", "This hip is left out of the BMD values.", "flag"
    ),
    "BMD-HIP-003": Code("The scan cuts the femoral head off.", "This hip is left out of the BMD values.", "flag"),
    "BMD-PAIR-001": Code(
        "The registration of a bone that the pair shows was rejected.",
        "Look at the overlay in cases/<id>/qc; give landmarks or a better start, or set pairs.keep_rejected.",
    ),
    "BMD-PAIR-002": Code(
        "The target hip does not lie in its half of the radiograph.",
        "Check the column side, and that the image is AP with the patient's left on its right.",
    ),
    "BMD-PAIR-003": Code(
        "CT and radiograph name different patients.", "Check the row of cohort.csv; the files do not belong together."
    ),
    "BMD-PAIR-004": Code(
        "The radiograph names the other side than cohort.csv does.", "Correct the column side, or the file."
    ),
    "BMD-PAIR-005": Code(
        "No calibration phantom was found and no other line is allowed.",
        "Give a calibration.json in cohort.csv, or choose another mode in the recipe.",
    ),
    "BMD-RUN-001": Code("The process of a case was killed.", "Run again: it is resumed. Is there enough memory?", "failed"),
    "BMD-RUN-002": Code("A case took too long.", "Raise --timeout-per-case and run again.", "failed"),
    "BMD-RUN-003": Code("A case needed more memory than there is.", "Run again with fewer --n-jobs.", "failed"),
    "BMD-RUN-004": Code("A case met a bug.", "Report it with its file in logs/; run again after an update.", "failed"),
    "BMD-RUN-020": Code("Another run is writing to the output.", "Wait for it, or choose another --out.", "exit 5"),
    "BMD-RUN-030": Code("The output cannot be written to.", "Choose another --out, or change its permissions.", "exit 4"),
    "BMD-RUN-031": Code(
        "The output's file system has less room than the build needs.", "Free some, or choose another --out.", "exit 4"
    ),
    "BMD-RUN-032": Code(
        "A column of cohort.csv bears the name of a column of the manifest.", "Rename the column.", "exit 4"
    ),
    "BMD-RUN-033": Code("A patient is in two folds.", "Give all rows of a patient one whole number as fold.", "exit 4"),
    "BMD-RUN-034": Code(
        "The output holds cases that the cohort does not.",
        "Choose another --out, or remove them with --overwrite.",
        "exit 4",
    ),
    "BMD-RUN-035": Code("The folder is no dataset of bmdkit.", "Name the --out of a build-dataset run.", "exit 4"),
    "BMD-RUN-036": Code("--only names a patient that the cohort does not have.", "Check the identifier.", "exit 4"),
}


class BmdkitError(Exception):
    """Something outside the program is wrong, and the user can be told what.

    Args:
        code: A key of `CODES`, such as "BMD-CT-012".
        message: What was measured against what is allowed.
        case: The patient's identifier in the cohort.
        file: The file at fault.
    """

    exit_code = 3

    def __init__(self, code: str, message: str, *, case: str | None = None, file: str | Path | None = None) -> None:
        if code not in CODES:
            raise ValueError(f"code {code!r} is not documented in bmdkit.errors.CODES")
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.case = case
        self.file = None if file is None else str(file)

    def __reduce__(self):
        return _rebuild, (type(self), self.code, self.message, self.case, self.file)

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        return CODES[self.code].remedy

    def __str__(self) -> str:
        where = " ".join(part for part in (self.case, self.file) if part)
        return f"{self.code}: {where + ': ' if where else ''}{self.message} Remedy: {self.remedy}"


def _rebuild(kind, code, message, case, file):
    return kind(code, message, case=case, file=file)


class CaseError(BmdkitError):
    """One case's data are unfit: the case is quarantined and the rest of the cohort is built."""


class PreflightError(BmdkitError):
    """Nothing was started: the cohort, the output or the machine is not as it has to be."""

    exit_code = 4


class LockedError(BmdkitError):
    """Another run holds the output."""

    exit_code = 5


class DiskFullError(BmdkitError):
    """The output's file system is full; what was finished is safe and the run can be resumed."""

    exit_code = 6


def as_markdown() -> str:
    """The page docs/errors.md: every code with its outcome, cause and remedy."""
    lines = [
        "# Error codes",
        "",
        "Made from `bmdkit/errors.py` by `make docs`. *quarantine*: the case is left out and named, the rest is",
        "built; *flag*: the hip is marked and left out of BMD; *failed*: the case broke off; *exit N*: the command",
        "ends with that status.",
        "",
        "| code | outcome | cause | remedy |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {code.outcome} | {code.cause} | {code.remedy} |" for name, code in sorted(CODES.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    from bmdkit import errors

    sys.stdout.write(errors.as_markdown())
