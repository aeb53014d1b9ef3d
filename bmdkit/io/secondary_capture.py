"""A computed image as a DICOM secondary capture, with the geometry that it was computed for."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.io.results import write_bytes


def write_secondary_capture(
    path: Path,
    image: np.ndarray,
    geometry: ProjectionGeometry,
    *,
    unit: str,
    about: Mapping[str, Any],
    window: tuple[float, float],
    directions_lps: np.ndarray | None = None,
    side: Side | None = None,
) -> None:
    """Write one image, 16 bit, brighter = denser; a rescale slope gives back its values.

    It holds no patient's name or number and no time; its UIDs follow from its contents, so that equal images are equal
    files.

    Args:
        path: File to be written.
        image: (rows, columns), not negative.
        geometry: Camera of the image; spacing and SDD go to their own attributes.
        unit: Unit of the values.
        about: What else there is to say (pose, structure), written as JSON into the image comments.
        window: Values to show as black and as white.
        directions_lps: (2, 3), where the image's columns and rows run to in the patient; None: as in an AP view of
            the hip, to the left and to the feet.
        side: The hip that is shown, the patient's own; None: both or another part.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import generate_uid

    image = np.maximum(np.asarray(image, np.float64), 0)
    slope = max(float(image.max()), 1e-9) / 65535
    stored = np.rint(image / slope).astype("<u2")
    comment = json.dumps({"camera": geometry.to_dict(), **about}, sort_keys=True)
    words = f"{comment}\n{unit}\n{slope!r}\n{side}"
    origin = hashlib.sha256(stored.tobytes() + words.encode()).hexdigest()
    directions = np.array([[1, 0, 0], [0, 0, -1]]) if directions_lps is None else np.asarray(directions_lps)
    data = SCImage(
        stored,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=16,
        coordinate_system="PATIENT",
        study_instance_uid=generate_uid(entropy_srcs=[origin, "study"]),
        series_instance_uid=generate_uid(entropy_srcs=[origin, "series"]),
        series_number=1,
        sop_instance_uid=generate_uid(entropy_srcs=[origin]),
        instance_number=1,
        manufacturer="bmdkit",
        patient_orientation=(name_direction(directions[0]), name_direction(directions[1])),
        laterality=side,
        series_description="DRR",
        specific_character_set="ISO_IR 192",
    )
    for data_set in (data, *data.get("ContributingEquipmentSequence", ())):
        for element in [element for element in data_set if element.VR in ("DA", "TM", "DT") and element.value]:
            del data_set[element.tag]  # of the moment of writing
    if side is None:
        data.Laterality = ""  # required, and may be empty
    data.ConversionType, data.ImageType = "WSD", ["DERIVED", "SECONDARY"]
    data.DerivationDescription = "Digitally reconstructed radiograph"
    data.ImageComments = comment
    data.DistanceSourceToDetector = f"{geometry.sdd_mm:.10g}"
    data.ImagerPixelSpacing = [f"{geometry.row_spacing_mm:.10g}", f"{geometry.column_spacing_mm:.10g}"]
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = f"{slope:.10g}", "0", unit
    low, high = window
    data.WindowCenter, data.WindowWidth = f"{(low + high) / 2:.8g}", f"{max(high - low, 1e-6):.8g}"
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    write_bytes(path, buffer.getvalue())


def name_direction(direction_lps: np.ndarray) -> str:
    """Name the direction in the patient that a vector mostly points to, by the letter that DICOM has for it.

    Args:
        direction_lps: (3,), LPS.

    Returns:
        L, R, P, A, H or F.

    Example:
        >>> name_direction(np.array([0.1, -0.2, -0.9]))
        'F'
    """
    axis = int(np.argmax(np.abs(direction_lps)))
    return "RAF"[axis] if direction_lps[axis] < 0 else "LPH"[axis]
