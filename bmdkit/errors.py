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
    "BMD-OUT-001": Code(
        "The file system is full.", "Free some space and run the same command again: it resumes.", "exit 6"
    ),
    "BMD-CT-001": Code("No CT slices are there.", "Give the folder that holds the CT series, or a volume file in HU."),
    "BMD-CT-002": Code("The series asked for is not in the folder.", "Check the series UID."),
    "BMD-CT-003": Code(
        "Several CT series are equally large, so none can be chosen.", "Name one by its UID, or remove the others."
    ),
    "BMD-CT-004": Code("Too few or too many slices.", "Export the whole series again, one series in a folder."),
    "BMD-CT-005": Code("Slices of several patients in one folder.", "Give every patient a folder of its own."),
    "BMD-CT-006": Code(
        "One series mixes frames of reference, orientations, matrices or pixel spacings.",
        "Export the reconstructions separately.",
    ),
    "BMD-CT-007": Code(
        "Nothing says where the slices or voxels lie.", "Export again with positions and orientations (or sform)."
    ),
    "BMD-CT-008": Code("The directions of the axes are not orthonormal.", "Export or resample the volume again."),
    "BMD-CT-009": Code("No rescale slope and intercept, so no HU.", "Export again from the scanner or archive."),
    "BMD-CT-010": Code("Slices are unreadable, truncated or have a bad header.", "Copy or export these files again."),
    "BMD-CT-011": Code("Slices are missing.", "Find the slices of the gaps that are listed, or export again."),
    "BMD-CT-012": Code("The spacing of the slices varies.", "Export one reconstruction of constant spacing."),
    "BMD-CT-013": Code(
        "Slices contradict each other: two versions of one position, or slices beside the line of the others.",
        "Remove the wrong version, or export again.",
    ),
    "BMD-CT-014": Code("The gantry was tilted.", "Ask for the shear correction, or reconstruct the scan without tilt."),
    "BMD-CT-015": Code(
        "The values cannot be Hounsfield units of a body.", "Check the rescale; a volume file has to be in HU."
    ),
    "BMD-CT-019": Code("An enhanced multi-frame CT.", "Export it as classic single-frame CT, or as NIfTI in HU."),
    "BMD-CT-020": Code("A volume file is truncated, damaged or of an unknown kind.", "Copy or convert it again."),
    "BMD-CT-021": Code("A volume file is not three-dimensional.", "Extract the one volume that is meant."),
    "BMD-CT-022": Code("A volume file's geometry is singular or not finite.", "Convert the volume again."),
    "BMD-CT-023": Code("qform and sform of a NIfTI file disagree.", "Set both to the right one."),
    "BMD-CT-024": Code("A volume file holds values that are not finite.", "Convert again; fill NaN with -1024 HU."),
    "BMD-XR-001": Code("The radiograph is not there.", "Check the path in the cohort."),
    "BMD-XR-002": Code("A radiograph is unreadable, truncated or has a bad header.", "Copy or export it again."),
    "BMD-XR-003": Code("A radiograph is in colour.", "Export the grey original, or set color: warn."),
    "BMD-XR-004": Code("A radiograph has several frames.", "Export the one that is meant, or set multiframe: warn."),
    "BMD-XR-005": Code("A radiograph is a screenshot.", "Export the original, or set screenshot: warn."),
    "BMD-XR-006": Code("A radiograph was compressed with loss.", "Export the original, or set lossy: warn."),
    "BMD-XR-007": Code(
        "The precision of a JPEG 2000 radiograph is not its BitsStored.", "Export it again, or set precision: warn."
    ),
    "BMD-XR-010": Code(
        "The pixel spacing at the detector is not known.", "Set default_pixel_mm, or export with ImagerPixelSpacing."
    ),
    "BMD-XR-011": Code(
        "The distance from source to detector is not known.", "Set default_sdd_mm, or export with the distance."
    ),
    "BMD-XR-014": Code("A radiograph is blank.", "Check the image; nothing but border was found."),
    "BMD-XR-015": Code("A look-up table of a radiograph cannot be applied.", "Export it again, or set voi: none."),
    "BMD-XR-016": Code(
        "The side-car of a PNG or TIFF radiograph is missing or wrong.",
        "Write NAME.json beside it: {sdd_mm, pixel_mm, brighter_is_denser}.",
    ),
    "BMD-XR-017": Code("A PNG or TIFF radiograph is not 16-bit grey.", "Export it with its full depth."),
    "BMD-XR-018": Code("The file is no radiograph.", "Give a CR, DX or RF image."),
    "BMD-XR-019": Code("A radiograph is not a frontal view.", "Give an antero-posterior view of the hip."),
    "BMD-XR-020": Code(
        "The radiograph names the other side than the cohort.", "Correct the side in the cohort, or the radiograph."
    ),
    "BMD-XR-021": Code("CT and radiograph are of different patients.", "Correct the row of the cohort."),
    "BMD-XR-022": Code("A radiograph may be mirrored.", "Look at it: right must be right.", "flag"),
    "BMD-SUM-001": Code(
        "An input is not as it was when the cohort was sealed.",
        "Restore the named files (`bmdkit fsck COHORT` names all); if the change is yours, "
        "`bmdkit fsck --seal --overwrite COHORT`.",
    ),
    "BMD-SUM-002": Code("The cohort is not sealed.", "Seal it with `bmdkit fsck --seal COHORT`.", "exit 4"),
    "BMD-SUM-003": Code(
        "The table of a sealed cohort has changed, or its SHA256SUMS cannot be read.",
        "See `bmdkit fsck COHORT`; if the change is yours, seal again with `bmdkit fsck --seal COHORT`.",
        "exit 4",
    ),
    "BMD-MRK-001": Code("A landmark file cannot be read.", "Save it again from 3D Slicer."),
    "BMD-MRK-002": Code("A landmark file does not say LPS or RAS.", "Save it again, or name its coordinate system."),
    "BMD-MRK-003": Code("A landmark file names none of the landmarks.", "Use the eight names of the manual."),
    "BMD-MAP-001": Code("A label map cannot be read.", "Save it again as a three-dimensional map of whole numbers."),
    "BMD-MAP-002": Code(
        "Nothing says which label is which bone.", "Write NAME.json beside the map: {name: value}, with our names."
    ),
    "BMD-MAP-003": Code("The side-car of a label map cannot be read.", "Write it as {name: value}."),
    "BMD-COH-001": Code("The cohort has several kinds of problems.", "Correct every line that is listed.", "exit 4"),
    "BMD-COH-002": Code("cohort.csv cannot be read.", "Save it as CSV, UTF-8, with a header.", "exit 4"),
    "BMD-COH-003": Code(
        "A column is missing or doubled.", "patient_id, ct, xray and side are required, each once.", "exit 4"
    ),
    "BMD-COH-004": Code("A row has more cells than the header.", "Quote cells that hold commas.", "exit 4"),
    "BMD-COH-005": Code("A required cell is empty.", "Fill it.", "exit 4"),
    "BMD-COH-006": Code(
        "A file of the cohort is not there, or may not be read.",
        "Correct the path (relative to the cohort) or the permissions.",
        "exit 4",
    ),
    "BMD-COH-007": Code("A side is neither L nor R.", "Write the patient's own side, L or R.", "exit 4"),
    "BMD-COH-008": Code("A BMD is no number.", "Write g/cm2 as a number, or leave the cell empty.", "exit 4"),
    "BMD-COH-009": Code(
        "A patient_id is not made of 1 to 64 of A-Z a-z 0-9 _ -.", "Rename it, or use --pseudonymise.", "exit 4"
    ),
    "BMD-COH-010": Code("A row is there twice.", "Remove one.", "exit 4"),
    "BMD-COH-011": Code(
        "Two patient_ids differ in upper and lower case only.", "Rename one, or use --pseudonymise.", "exit 4"
    ),
    "BMD-COH-012": Code(
        "Rows of one patient name different files.", "One patient has one CT, one label map, one calibration.", "exit 4"
    ),
    "BMD-COH-013": Code("Two patients share one image.", "Correct patient_id or the path.", "exit 4"),
    "BMD-CAL-001": Code(
        "No calibration phantom was found in the CT.",
        "Give the rods or a calibration.json, choose calibration.mode phantomless or none, or name its phantom.",
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
    "BMD-LBL-005": Code(
        "The cohort names no label map of the CT, and only its own are to be used.",
        "Name a label map in the column labels, or let the model make one (--segmentation auto).",
    ),
    "BMD-SEG-002": Code(
        "TotalSegmentator was asked for and is not installed.",
        "Install it beside bmdkit (`pip install TotalSegmentator`), or set segmentation.totalsegmentator.executable.",
        "exit 4",
    ),
    "BMD-SEG-003": Code(
        "TotalSegmentator did not segment the CT.", "Run it on this CT by hand to see why; raise its timeout_s."
    ),
    "BMD-SEG-004": Code(
        "The network is less sure of a bone of this hip than is allowed.",
        "Look at labels and uncertainty.nii.gz; give a corrected label map, or set segmentation.most_uncertainty.",
        "flag",
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
    "BMD-DRR-001": Code(
        "A CUDA device was asked for and DRRs cannot be rendered on it.",
        "Use --device cpu, or a machine with an NVIDIA GPU and a CUDA build of torch, which brings triton.",
        "exit 4",
    ),
    "BMD-RUN-001": Code(
        "The process of a case was killed.", "Run again: it is resumed. Is there enough memory?", "failed"
    ),
    "BMD-RUN-002": Code("A case took too long.", "Raise --timeout-per-case and run again.", "failed"),
    "BMD-RUN-003": Code(
        "A case needed more memory than it may have.",
        "Raise --memory-per-case, or run again with fewer --n-jobs.",
        "failed",
    ),
    "BMD-RUN-004": Code("A case met a bug.", "Report it with its file in logs/; run again after an update.", "failed"),
    "BMD-RUN-005": Code(
        "A file could not be read or written while a case was built.",
        "Check the disk, the network and the permissions, and run again: it is resumed.",
        "failed",
    ),
    "BMD-RUN-020": Code("Another run is writing to the output.", "Wait for it, or choose another --out.", "exit 5"),
    "BMD-RUN-030": Code(
        "The output cannot be written to.", "Choose another --out, or change its permissions.", "exit 4"
    ),
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
    "BMD-RUN-037": Code(
        "The output folder holds something other than a dataset.", "Choose an empty or a new folder as --out.", "exit 4"
    ),
    "BMD-RUN-036": Code("--only names a patient that the cohort does not have.", "Check the identifier.", "exit 4"),
    "BMD-RUN-038": Code(
        "The Dask cluster cannot be used.",
        "Check the address of --dask, and that the scheduler runs; `pip install bmdkit[dask]`.",
        "exit 4",
    ),
    "BMD-RUN-039": Code(
        "A worker of the cluster cannot build this case.",
        "Give all machines the same bmdkit, and the output and the cohort under the same paths; run again.",
        "failed",
    ),
    "BMD-TRN-001": Code(
        "The folder to train on is no built dataset.", "Give the folder that `bmdkit build-dataset` wrote.", "exit 4"
    ),
    "BMD-TRN-002": Code(
        "The images are not in the units of a built dataset: radiographs in [0, 1], projections in g/cm2.",
        "Build the dataset again with this version.",
        "exit 4",
    ),
    "BMD-TRN-003": Code(
        "The manifest cannot be used: a patient is in two folds, or a value is missing or no number.",
        "Build the dataset again; do not edit the manifest by hand.",
        "exit 4",
    ),
    "BMD-TRN-004": Code(
        "There is nothing to train on, or nobody in the fold to hold out.",
        "Choose another fold, or `--fold all`; look at the manifest for what the pairs failed at.",
        "exit 4",
    ),
    "BMD-TRN-005": Code(
        "An image of a pair is missing, damaged, not finite or of another shape.",
        "Run `bmdkit fsck`, and build the named pair again.",
        "exit 4",
    ),
    "BMD-TRN-006": Code(
        "The weights belong to another architecture.",
        "Train with the generator settings of the run that they come from (its config.json).",
        "exit 4",
    ),
    "BMD-TRN-007": Code(
        "A loss became infinite or NaN.",
        "Lower optimiser.lr, or use loop.precision float32; the last checkpoints are from before.",
        "failed",
    ),
    "BMD-TRN-008": Code(
        "The output folder holds another run, or something else.",
        "Choose another folder, or `--overwrite`.",
        "exit 4",
    ),
    "BMD-TRN-009": Code(
        "A run or its weights cannot be read; pickled weights are never opened.",
        "Give the folder of a finished run; restore the file, or train again with `--overwrite`.",
        "exit 4",
    ),
    "BMD-TRN-010": Code(
        "The device that was asked for is not there.", "Use `--device auto`, or see `bmdkit doctor`.", "exit 4"
    ),
    "BMD-TRN-011": Code(
        "TensorBoard was asked for and is not installed.",
        "`pip install tensorboard`, or leave loop.tensorboard out; log.csv has the same numbers.",
        "exit 4",
    ),
    "BMD-TRN-012": Code(
        "An unpaired training has no run to start from.",
        "Give a finished decomposition run as --init-from: it says what bone looks like.",
        "exit 4",
    ),
    "BMD-TRN-013": Code(
        "No pair says where the landmarks of the proximal femur project.",
        "Build or simulate the dataset again, with landmarks found or given.",
        "exit 4",
    ),
    "BMD-TRN-014": Code(
        "The run to start from, or one before it, has learnt from patients that are to be held out.",
        "Start from a run that held out the same fold; `--fold all` trains on everybody and measures nobody.",
        "exit 4",
    ),
    "BMD-TRN-015": Code(
        "The processes of a training do not see the same checkpoints.",
        "Give as --out a folder that all of them share.",
        "exit 4",
    ),
    "BMD-TRN-020": Code(
        "The folder to learn segmentation from is neither a cohort with labels nor images with labels.",
        "Give a cohort whose column labels is filled, or a folder with images/NAME.nii.gz and labels/NAME.nii.gz.",
        "exit 4",
    ),
    "BMD-TRN-021": Code(
        "A CT or label map to learn from cannot be used.", "Correct the named file, or leave it out.", "exit 4"
    ),
    "BMD-EVA-001": Code("A folder to evaluate is no finished run.", "Give the --out of a finished training.", "exit 4"),
    "BMD-EVA-002": Code(
        "A run was trained on another dataset than the one it is to be evaluated on.",
        "Give the dataset of the training as --data.",
        "exit 4",
    ),
    "BMD-EVA-003": Code("Two runs are of the same method, task, fold and seed.", "Leave one of them out.", "exit 4"),
    "BMD-EVA-004": Code(
        "A run has no patients of the split that was asked for.",
        "Train with a fold held out, or evaluate with --split train.",
        "exit 4",
    ),
    "BMD-EVA-005": Code(
        "Nothing says whether the data are simulated or clinical.",
        "Give --kind simulated or --kind clinical.",
        "exit 4",
    ),
    "BMD-PRE-001": Code(
        "The run cannot predict BMD.",
        "Give a finished decomposition run of dataset B whose patients have BMD, made with this version.",
        "exit 4",
    ),
    "BMD-EXP-001": Code("The folder to export to holds something.", "Name a new folder.", "exit 4"),
    "BMD-EXP-002": Code(
        "A library that writes or checks this format is not installed.", "`pip install bmdkit[onnx]`.", "exit 4"
    ),
    "BMD-EXP-003": Code(
        "An exported copy does not give what the network gives.",
        "Do not use it; try another format, and report it with the versions that `bmdkit doctor` names.",
        "exit 4",
    ),
    "BMD-SIM-001": Code(
        "The folder of a simulation holds something else.",
        "Name a new folder, or give --overwrite to replace a simulated cohort.",
        "exit 4",
    ),
    "BMD-SIM-002": Code(
        "A label map given as anatomy cannot be read, or its structures have no names.",
        "Name its values: --anatomy-labels pelvis=1 femur=2 sacrum=3 spine=4.",
        "exit 4",
    ),
    "BMD-SIM-003": Code(
        "A label map given as anatomy lacks a bone that a hip needs, or shows too little of it.",
        "It has to show the pelvis, and both femurs to at least 3 cm below the lesser trochanter.",
        "exit 4",
    ),
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
