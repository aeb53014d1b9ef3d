"""What can be wrong with the files that a user gives: CT, radiograph, landmarks, label maps, cohort table."""

from __future__ import annotations

from bmdkit.errors.code import Code

INPUT_CODES: dict[str, Code] = {
    "BMD-CT-001": Code("No CT slices are there.", "Give the folder that holds the CT series, or a volume file in HU."),
    "BMD-CT-002": Code("The series asked for is not in the folder.", "Check the series UID."),
    "BMD-CT-003": Code(
        "Several CT series are equally large, so none can be chosen.", "Name one by its UID, or remove the others."
    ),
    "BMD-CT-004": Code(
        "Too few or too many slices.", "Give the folder with all slices of the series, or export the series again."
    ),
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
    "BMD-CT-014": Code("The gantry was tilted.", "Set ct.correct_tilt: true, or reconstruct the scan without tilt."),
    "BMD-CT-015": Code(
        "The values cannot be Hounsfield units of a body.", "Check the rescale; a volume file has to be in HU."
    ),
    "BMD-CT-016": Code(
        "A CT was compressed with loss, so its HU are not exact.", "Export the original, or set ct.lossy: warn."
    ),
    "BMD-CT-018": Code(
        "No decoder for the compression of a CT is installed.",
        "Install the decoders (`pip install bmdkit[codecs]`), or export the series without compression.",
    ),
    "BMD-CT-019": Code(
        "A CT of several frames that are not described one by one.",
        "Export it as enhanced CT, as classic single-frame CT, or as NIfTI in HU.",
    ),
    "BMD-CT-020": Code("A volume file is truncated, damaged or of an unknown kind.", "Copy or convert it again."),
    "BMD-CT-021": Code("A volume file is not three-dimensional.", "Extract the one volume that is meant."),
    "BMD-CT-022": Code("A volume file's geometry is singular or not finite.", "Convert the volume again."),
    "BMD-CT-023": Code("qform and sform of a NIfTI file disagree.", "Set both to the right one."),
    "BMD-CT-024": Code("A volume file holds values that are not finite.", "Convert again; fill NaN with -1024 HU."),
    "BMD-CT-025": Code(
        "The unit of length of a volume file is not known.", "Convert the volume again, with its places in mm."
    ),
    "BMD-CT-026": Code(
        "The voxels of a volume file are too small or too large for a scan of a body.",
        "Check the unit of its spacing (mm), and convert it again.",
    ),
    "BMD-XR-001": Code("The radiograph is not there.", "Check the path in the cohort."),
    "BMD-XR-002": Code("A radiograph is unreadable, truncated or has a bad header.", "Copy or export it again."),
    "BMD-XR-003": Code("A radiograph is in colour.", "Export the grey original, or set color: warn."),
    "BMD-XR-004": Code("A radiograph has several frames.", "Export the one that is meant, or set multiframe: warn."),
    "BMD-XR-005": Code("A radiograph is a screenshot.", "Export the original, or set screenshot: warn."),
    "BMD-XR-006": Code("A radiograph was compressed with loss.", "Export the original, or set lossy: warn."),
    "BMD-XR-007": Code(
        "The precision of a JPEG 2000 radiograph is not its BitsStored.", "Export it again, or set precision: warn."
    ),
    "BMD-XR-008": Code(
        "No decoder for the compression of a radiograph is installed.",
        "Install the decoders (`pip install bmdkit[codecs]`), or export the image without compression.",
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
        "Write NAME.json beside it: {sdd_mm, pixel_mm, brighter_is_denser}, or a whole camera.",
    ),
    "BMD-XR-017": Code("A PNG or TIFF radiograph is no grey image, or has 8 bits.", "Export it with its full depth."),
    "BMD-XR-018": Code("The file is no radiograph.", "Give a CR, DX or RF image."),
    "BMD-XR-019": Code("A radiograph is not a frontal view.", "Give an antero-posterior view, or set view: warn."),
    "BMD-XR-020": Code(
        "The radiograph names the other side than the cohort.", "Correct the side in the cohort, or the radiograph."
    ),
    "BMD-XR-021": Code(
        "CT and radiograph are of different patients, or nothing shows that they are of one.",
        "Correct the row of the cohort; if it is right, set same_person: given.",
    ),
    "BMD-XR-022": Code("A radiograph may be mirrored.", "Look at it: right must be right.", "flag"),
    "BMD-XR-023": Code(
        "The polarity of a radiograph is in doubt: tags and content disagree on whether bone is bright or dark.",
        "Look at the image and set polarity: bone_bright or bone_dark.",
    ),
    "BMD-XR-024": Code(
        "A radiograph shows another part of the body than a hip.",
        "Give a radiograph of the hip or the pelvis, or set view: warn.",
    ),
    "BMD-XR-025": Code(
        "A radiograph shows one hip, and nothing says which.",
        "Name the side: --side, the table's column side, or the tag ImageLaterality.",
    ),
    "BMD-XR-026": Code(
        "The size of a radiograph does not fit its pixel spacing: it may have been resampled.",
        "Export the original, correct the spacing, or set resampled: warn.",
    ),
    "BMD-XR-027": Code(
        "A camera file cannot be used.",
        "Write {name: {K or sdd_mm, column_spacing_mm, row_spacing_mm, principal_point_uv, camera_from_world, sd}}.",
    ),
    "BMD-DCM-001": Code(
        "An image is no DICOM object of a study, so that no DICOM object of its results can join the study.",
        "Give the DICOM image as it was exported; the other outputs are written all the same.",
    ),
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
    "BMD-COH-001": Code("The table has several kinds of problems.", "Correct every line that is listed.", "exit 4"),
    "BMD-COH-002": Code("A table cannot be read.", "Save it as CSV, UTF-8, with a header.", "exit 4"),
    "BMD-COH-003": Code(
        "A column is missing or doubled.",
        "Give each required column once: patient_id, xray, side, and ct of a cohort or dxa_bmd of known hips.",
        "exit 4",
    ),
    "BMD-COH-004": Code("A row has more cells than the header.", "Quote cells that hold commas.", "exit 4"),
    "BMD-COH-005": Code("A required cell is empty.", "Fill it.", "exit 4"),
    "BMD-COH-006": Code(
        "A file that a table names is not there, or may not be read.",
        "Correct the path (relative to the table) or the permissions.",
        "exit 4",
    ),
    "BMD-COH-007": Code("A side is neither L nor R.", "Write the patient's own side, L or R.", "exit 4"),
    "BMD-COH-008": Code(
        "A BMD is no number, or none that a patient can have in its unit.",
        "Write a number, g/cm2 for dxa_bmd and mg/cm3 for qct_bmd, or leave the cell empty.",
        "exit 4",
    ),
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
    "BMD-COH-014": Code(
        "The name of a column is nearly a known one.",
        "Write the known name; or rename the column, if it holds something else.",
        "exit 4",
    ),
    "BMD-COH-015": Code(
        "The word of a pose is nearly a known one.", "Write the known word, if it is meant.", "warning"
    ),
    "BMD-COH-016": Code(
        "No radiograph that can be used lies below the folders.",
        "Name folders that hold DICOM exports (CR, DX, RF); the reasons are counted in the message.",
        "exit 4",
    ),
    "BMD-COH-017": Code(
        "The cohort has a table already.", "Choose another --out, or replace the table with --overwrite.", "exit 4"
    ),
}
