"""The images that a result comes from: whose they are, and the study that the result's objects join."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bmdkit.errors import CaseError
from bmdkit.io.dicom_files import UnreadableError, is_dicom, read_data_set
from bmdkit.io.pseudonyms import make_pseudonym, make_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_KEPT = (
    *_GEOMETRY,
    "SOPClassUID",
    "Modality",
    "ImageType",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "LossyImageCompression",
    "ImagerPixelSpacing",
)
_FRAME_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
}


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The images that a result comes from, all of one series.

    Attributes:
        headers: Their data sets without pixels, every attribute that DICOM wants present.
        identifier: What tells the patient from others: PatientID, else name and birth date, else the study.
        is_pseudonymous: Whether a pseudonym and new UIDs stand for the patient's own.
    """

    headers: tuple[Dataset, ...] = field(repr=False)
    identifier: str = field(repr=False)
    is_pseudonymous: bool = False

    @property
    def first(self) -> Dataset:
        """The first image."""
        return self.headers[0]

    def refer(self) -> Dataset:
        """A reference to the first image, as an item of a sequence of source images."""
        from pydicom.dataset import Dataset

        item = Dataset()
        item.ReferencedSOPClassUID = self.first.SOPClassUID
        item.ReferencedSOPInstanceUID = self.first.SOPInstanceUID
        return item

    def pseudonymise(self, key: bytes) -> SourceImages:
        """Put a pseudonym and new UIDs in place of the patient's, and leave out whatever is not geometry.

        Objects of one patient, study and frame of reference keep what ties them, for the same key.

        Args:
            key: Secret of the pseudonyms.
        """
        name = make_pseudonym(self.identifier, key)
        return SourceImages(tuple(_pseudonymise(header, name, key) for header in self.headers), name, True)


def read_source_images(paths: Sequence[Path], *, case: str | None = None) -> SourceImages:
    """Read the headers of the images that a result comes from.

    Args:
        paths: Files of one series.
        case: Case for the message of an error.

    Raises:
        CaseError: A file is no DICOM image, or names no study or series (BMD-DCM-001).
    """
    headers = []
    for path in paths:
        try:
            if not is_dicom(path):
                raise UnreadableError("it is no DICOM file")
            header = read_data_set(path)
        except UnreadableError as error:
            raise CaseError("BMD-DCM-001", f"{error}.", case=case, file=path.name) from error
        if missing := [word for word in _UIDS[:3] if not header.get(word)]:
            raise CaseError("BMD-DCM-001", f"it has no {', '.join(missing)}.", case=case, file=path.name)
        for word in _MAY_BE_EMPTY:
            if word not in header:
                setattr(header, word, "")
        headers.append(header)
    first = headers[0]
    names = (str(first.PatientID), f"{first.PatientName} {first.PatientBirthDate}".strip(), str(first.StudyInstanceUID))
    return SourceImages(tuple(headers), next(name for name in names if name))


def _pseudonymise(header: Dataset, name: str, key: bytes) -> Dataset:
    from pydicom.dataset import Dataset

    found = Dataset()
    for word in _MAY_BE_EMPTY:
        setattr(found, word, "")
    found.PatientID = found.PatientName = name
    for word in _KEPT:
        if word in header:
            found[word] = copy.deepcopy(header[word])
    for word in _UIDS:
        if word in header:
            setattr(found, word, make_uid(str(header[word].value), key))
    if "FrameOfReferenceUID" in header:
        found.PositionReferenceIndicator = None
    for word in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if word in header:
            setattr(found, word, [_keep_geometry(group) for group in header[word].value])
    return found


def _keep_geometry(group: Dataset) -> Dataset:
    """A functional group of a frame with nothing but where the frame lies."""
    from pydicom.dataset import Dataset

    kept = Dataset()
    for word, inner in _FRAME_GROUPS.items():
        if word in group:
            item = Dataset()
            for name in inner:
                if name in group[word].value[0]:
                    item[name] = copy.deepcopy(group[word].value[0][name])
            setattr(kept, word, [item])
    return kept
