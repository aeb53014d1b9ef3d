"""A computed image as a DICOM secondary capture, with the geometry that it was computed for."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.io.results import write_bytes


def write_secondary_capture(
    path: Path, image: np.ndarray, geometry: ProjectionGeometry, *, unit: str, about: dict, window: tuple[float, float]
) -> None:
    """Write one image, 16 bit, brighter = denser; a rescale slope gives back its values.

    It holds no patient's name or number; its UIDs follow from its contents.

    Args:
        path: To be written.
        image: (rows, columns), not negative.
        geometry: Of the camera; spacing and SDD go to their own attributes.
        unit: Of the values.
        about: What else there is to say (pose, structure), written as JSON into the image comments.
        window: Values to show as black and as white.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    image = np.maximum(np.asarray(image, np.float64), 0)
    slope = max(float(image.max()), 1e-9) / 65535
    stored = np.rint(image / slope).astype("<u2")
    comment = json.dumps({"camera": geometry.to_dict(), **about}, sort_keys=True)
    origin = hashlib.sha256(stored.tobytes() + comment.encode() + unit.encode()).hexdigest()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[origin])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=[origin, "study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[origin, "series"])
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(data, name, "")
    data.AccessionNumber = data.ReferringPhysicianName = ""
    data.Modality, data.ConversionType, data.ImageType = "OT", "WSD", ["DERIVED", "SECONDARY"]
    data.Manufacturer, data.SeriesDescription = "bmdkit", "DRR"
    data.DerivationDescription = "Digitally reconstructed radiograph"
    data.SeriesNumber, data.InstanceNumber = 1, 1
    data.ImageComments = comment
    data.DistanceSourceToDetector = f"{geometry.sdd_mm:.10g}"
    spacing = [f"{geometry.row_spacing_mm:.10g}", f"{geometry.column_spacing_mm:.10g}"]
    data.ImagerPixelSpacing = spacing
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = f"{slope:.10g}", "0", unit
    low, high = window
    data.WindowCenter, data.WindowWidth = f"{(low + high) / 2:.8g}", f"{max(high - low, 1e-6):.8g}"
    data.PixelData = stored.tobytes()
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    write_bytes(path, buffer.getvalue())
