"""Simulated images as DICOM files; the same patient and seed give the same bytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from bmdkit.core.volume import Volume
from bmdkit.io.dicom_header import SIMULATOR
from bmdkit.io.results import open_staged_folder, write_bytes
from bmdkit.simulation.radiography import Exposed


def write_ct(folder: Path, hu: Volume, patient: str, *, prone: bool, origin: str) -> None:
    """Write one file per slice, head first; a prone patient's images are turned by 180 degrees as scanners do.

    Args:
        folder: Folder to write, which appears whole.
        hu: HU, int16, axes along LPS.
        patient: Identifier of the patient.
        prone: Whether the patient lies prone.
        origin: Text from which the UIDs are derived.
    """
    grid, array, orientation = hu.grid, hu.array, [1, 0, 0, 0, 1, 0]
    first = grid.origin_mm
    if prone:
        first = grid.points((0, grid.shape[1] - 1, grid.shape[2] - 1))
        array, orientation = array[:, ::-1, ::-1], [-1, 0, 0, 0, -1, 0]
    frame = generate_uid(entropy_srcs=[origin, "frame"])
    with open_staged_folder(folder) as staged:
        for n, pixels in enumerate(array):
            data = _make_dataset(CTImageStorage, "CT", patient, origin, "ct", n + 1)
            data.FrameOfReferenceUID = frame
            data.PatientPosition = "HFP" if prone else "HFS"
            data.BodyPartExamined, data.KVP, data.ImageType = "PELVIS", 120, ["ORIGINAL", "PRIMARY", "AXIAL"]
            data.ImageOrientationPatient = orientation
            position = np.add(first, (0, 0, n * grid.spacing_mm[2]))
            data.ImagePositionPatient = [f"{v:.4f}" for v in position]
            data.SliceLocation = f"{position[2]:.4f}"
            data.PixelSpacing = [f"{grid.spacing_mm[1]:.6f}", f"{grid.spacing_mm[0]:.6f}"]
            data.SliceThickness = f"{grid.spacing_mm[2]:.4f}"
            data.AcquisitionNumber, data.PositionReferenceIndicator = 1, ""
            data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, 0, "HU"
            data.WindowCenter, data.WindowWidth = 300, 1500
            _put_pixels(data, pixels, "MONOCHROME2", bits=16, signed=True)
            (staged / f"{n:04d}.dcm").write_bytes(_encode(data))


def write_radiograph(
    path: Path, image: np.ndarray, exposed: Exposed, patient: str, *, inverted: bool, origin: str
) -> None:
    """Write a DX image for presentation.

    Args:
        path: File to write.
        image: Pixels, (rows, columns), uint16, 12 bit, brighter = denser.
        exposed: Camera and tube voltage of the radiograph.
        patient: Identifier of the patient.
        inverted: Whether it is stored as MONOCHROME1 with an INVERSE presentation LUT.
        origin: Text from which the UIDs are derived.
    """
    geometry = exposed.geometry
    data = _make_dataset(DigitalXRayImageStorageForPresentation, "DX", patient, origin, path.stem, 1)
    data.ViewPosition = "PA" if geometry.reversed_columns else "AP"
    data.BodyPartExamined, data.KVP = "PELVIS", int(exposed.kvp)
    data.PatientOrientation, data.ImageLaterality = ["L", "F"], "B"
    data.DistanceSourceToDetector = f"{geometry.sdd_mm:.1f}"
    data.ImagerPixelSpacing = [f"{geometry.row_spacing_mm:.6g}", f"{geometry.column_spacing_mm:.6g}"]
    data.PresentationIntentType, data.ImageType = "FOR PRESENTATION", ["DERIVED", "PRIMARY"]
    data.PixelIntensityRelationship = "LOG"
    data.PixelIntensityRelationshipSign = 1 if inverted else -1
    data.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, 0, "US"
    data.WindowCenter, data.WindowWidth, data.BurnedInAnnotation = 2048, 4096, "NO"
    data.LossyImageCompression, data.DetectorType, data.PositionerType = "00", "DIRECT", "NONE"
    data.AnatomicRegionSequence = [_code("816092008", "SCT", "Pelvis")]
    view = (
        ("272479007", "SCT", "postero-anterior")
        if geometry.reversed_columns
        else ("399348003", "SCT", "antero-posterior")
    )
    data.ViewCodeSequence = [_code(*view)]
    data.ViewCodeSequence[0].ViewModifierCodeSequence = []
    data.AcquisitionContextSequence = []
    _put_pixels(
        data, 4095 - image if inverted else image, "MONOCHROME1" if inverted else "MONOCHROME2", 12, signed=False
    )
    write_bytes(path, _encode(data))


def _make_dataset(sop_class: str, modality: str, patient: str, origin: str, series: str, instance: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[origin, series, str(instance)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID, data.PatientName = modality, patient, f"Simulated^{patient}"
    data.PatientBirthDate, data.PatientSex = "19600101", "O"
    data.StudyDate, data.StudyTime, data.AccessionNumber, data.StudyID = "20200101", "120000", "", "1"
    data.Manufacturer, data.ReferringPhysicianName = SIMULATOR, ""
    data.StudyInstanceUID = generate_uid(entropy_srcs=[origin, "study", modality, series])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[origin, "series", series])
    data.SeriesNumber, data.InstanceNumber = 1, instance
    return data


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """One item of a sequence of codes."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _put_pixels(data: Dataset, pixels: np.ndarray, photometric: str, bits: int, *, signed: bool) -> None:
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, photometric
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, int(signed)
    data.PixelData = np.ascontiguousarray(pixels, "<i2" if signed else "<u2").tobytes()


def _encode(data: FileDataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()
