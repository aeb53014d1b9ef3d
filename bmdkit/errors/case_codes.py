"""What can be wrong with a case once its files are read: calibration, labels, landmarks, hips, pairs."""

from __future__ import annotations

from bmdkit.errors.code import Code

CASE_CODES: dict[str, Code] = {
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
    "BMD-RAT-002": Code(
        "A reader of the report has rated the pair bad.",
        "Mend what is wrong with it and build the case again, or take the rating out of ratings.csv.",
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
        "The labels do not lie on the CT's bones: of another series or patient, shifted, or mirrored.",
        "Check that the label map was drawn on this very series, and which way its array runs.",
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
    "BMD-SEG-005": Code(
        "The largest uncertainty of the network cannot be used with these settings of the prediction.",
        "Use the passes, pixels and weights that roc.json was measured with, measure it with these "
        "(benchmarks/segmentation.py), or set segmentation.most_uncertainty to a limit of your own.",
        "exit 4",
    ),
    "BMD-SEG-006": Code(
        "The device has no arithmetic of the precision that the segmentation is to compute with.",
        "Set segmentation.predict.precision to float32; bf16 is for a processor with AVX512_BF16 or AMX.",
        "exit 4",
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
}
