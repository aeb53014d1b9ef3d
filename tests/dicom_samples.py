"""Tiny asymmetric DICOM images, made from nothing; an `edit` callback turns them into any bad or odd variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

SPACING_MM = (2.0, 2.5, 3.0)
"""Of the CT along i (columns), j (rows), k (slices)."""
ORIGIN_MM = (-40.0, -60.0, 100.0)
BONE_KJI = (9, 8, 36)
"""The voxel of the CT with the highest value: superior, anterior and on the patient's left."""
BONE_HU = 1500

Edit = Callable[[int, FileDataset], None]


def body_hu(shape: tuple[int, int, int] = (12, 40, 48)) -> np.ndarray:
    """[slice, row, column] HU, int16: an ellipse of soft tissue in air, fat behind, one bone voxel at BONE_KJI."""
    k, j, i = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    inside = ((i - shape[2] / 2) / (0.42 * shape[2])) ** 2 + ((j - shape[1] / 2) / (0.4 * shape[1])) ** 2 < 1
    hu = np.where(inside, 40 + (i + j + k) % 7, -1000 + (i + 2 * j + k) % 5)
    hu[inside & (j > 0.7 * shape[1])] = -100
    hu[BONE_KJI] = BONE_HU
    return hu.astype(np.int16)


def bone_lps(kji=BONE_KJI, spacing_mm=SPACING_MM, origin_mm=ORIGIN_MM, orientation=(1, 0, 0, 0, 1, 0)) -> np.ndarray:
    """(3,), LPS, mm, of a voxel of a series written with these numbers."""
    axes = np.array(orientation, float).reshape(2, 3)
    k, j, i = kji
    steps = i * spacing_mm[0] * axes[0] + j * spacing_mm[1] * axes[1] + k * spacing_mm[2] * np.cross(*axes)
    return np.array(origin_mm) + steps


def data_set(path: Path, sop_class: str, modality: str, entropy: str) -> FileDataset:
    """An empty image of one patient, its UIDs made from `entropy` alone."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path), entropy])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, meta.MediaStorageSOPInstanceUID, modality
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "sample", "Sample^One", "19500101", "F"
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[entropy, "study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[entropy, "series"])
    ds.SamplesPerPixel, ds.BitsAllocated = 1, 16
    return ds


def write_ct(
    folder: Path,
    hu: np.ndarray,
    *,
    spacing_mm=SPACING_MM,
    origin_mm=ORIGIN_MM,
    orientation=(1, 0, 0, 0, 1, 0),
    series: str = "a",
    edit: Edit | None = None,
) -> Path:
    """Write a series of HU [slice, row, column] as signed 16-bit slices `<series>_0000.dcm` ...

    `edit(k, ds)` may change each slice before it is saved, or drop it by setting `ds.skip = True`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(hu.shape[0]):
        path = folder / f"{series}_{k:04d}.dcm"
        ds = data_set(path, CTImageStorage, "CT", f"ct {series}")
        ds.ImageType, ds.InstanceNumber, ds.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], k + 1, "HFS"
        ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["ct frame"])
        ds.ImageOrientationPatient = [f"{v:.9g}" for v in orientation]
        position = bone_lps((k, 0, 0), spacing_mm, origin_mm, orientation)
        ds.ImagePositionPatient = [f"{v:.9g}" for v in position]
        ds.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
        ds.SliceThickness = spacing_mm[2]
        ds.Rows, ds.Columns = hu.shape[1:]
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 1
        ds.PhotometricInterpretation, ds.RescaleSlope, ds.RescaleIntercept = "MONOCHROME2", 1, 0
        ds.PixelData = hu[k].astype("<i2").tobytes()
        if edit is not None:
            edit(k, ds)
        if not getattr(ds, "skip", False):
            ds.save_as(path, enforce_file_format=True)
    return folder


def write_enhanced_ct(
    path: Path, hu: np.ndarray, *, intercept: int = -1024, order: Sequence[int] | None = None, edit=None
) -> Path:
    """Write HU [slice, row, column] as one enhanced CT, its frames in any order; `edit(ds)` may change it before.

    The orientation and the spacing are shared by all frames, position and rescale are each frame's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    order = list(range(hu.shape[0])) if order is None else list(order)
    ds = data_set(path, EnhancedCTImageStorage, "CT", "enhanced")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["ct frame"])
    ds.Rows, ds.Columns, ds.NumberOfFrames = *hu.shape[1:], len(order)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.PhotometricInterpretation = 16, 15, 0, "MONOCHROME2"
    shared, turn, measures = Dataset(), Dataset(), Dataset()
    turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [SPACING_MM[1], SPACING_MM[0]], SPACING_MM[2]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = DicomSequence([turn]), DicomSequence([measures])
    ds.SharedFunctionalGroupsSequence = DicomSequence([shared])
    groups = []
    for k in order:
        group, place, rescale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [f"{v:.9g}" for v in bone_lps((k, 0, 0))]
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, intercept, "HU"
        group.PlanePositionSequence = DicomSequence([place])
        group.PixelValueTransformationSequence = DicomSequence([rescale])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    ds.PixelData = (hu[order].astype(np.int32) - intercept).astype("<u2").tobytes()
    if edit is not None:
        edit(ds)
    ds.save_as(path, enforce_file_format=True)
    return path


def hip_image(rows: int = 96, columns: int = 120) -> np.ndarray:
    """[row, column], float, 0 to 1, brighter = denser: smooth, brightest at upper right, so that every flip shows."""
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    image = 0.3 + 0.2 * u - 0.1 * v + 0.45 * np.exp(-(((u - 0.75) ** 2) + (v - 0.25) ** 2) / 0.02)
    return image + 0.02 * np.sin(40 * u + 23 * v)


def write_dx(
    path: Path, image: np.ndarray, *, bits: int = 12, edit: Callable[[FileDataset], None] | None = None
) -> Path:
    """Write values of 0 to 1 as an unsigned MONOCHROME2 image for presentation; `edit(ds)` may change it before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds = data_set(path, DigitalXRayImageStorageForPresentation, "DX", "dx")
    ds.ViewPosition, ds.BodyPartExamined, ds.PatientOrientation = "AP", "HIP", ["L", "F"]
    ds.DistanceSourceToDetector, ds.ImagerPixelSpacing = 1100.0, [0.5, 0.5]
    ds.PresentationIntentType, ds.PresentationLUTShape = "FOR PRESENTATION", "IDENTITY"
    ds.Rows, ds.Columns = image.shape
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.rint(image * (2**bits - 1)).astype("<u2").tobytes()
    if edit is not None:
        edit(ds)
    ds.save_as(path, enforce_file_format=True)
    return path
