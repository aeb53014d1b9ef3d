"""Every DICOM file below some folders by its header: what it is, whom it shows, when it was taken."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bmdkit.io.dicom_ct import CT_IMAGE
from bmdkit.io.dicom_files import UnreadableError, find_dicom_files, is_dicom, read_data_set
from bmdkit.io.dicom_frames import ENHANCED_CT
from bmdkit.io.dicom_header import is_localizer
from bmdkit.io.dicom_parsing import TagReader
from bmdkit.io.dicom_xray import RADIOGRAPH_MODALITIES
from bmdkit.io.patient_identity import make_patient_key
from bmdkit.jobs.local_pool import run_in_pool

_CHUNK = 200
_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ImageType"),
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge"),
    *("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "StudyDate", "AcquisitionTime", "ContentTime"),
    *("SeriesNumber", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "ConvolutionKernel", "SliceThickness"),
    *("BodyPartExamined", "PresentationIntentType", "ImageLaterality", "Laterality", "ViewPosition"),
    *("PatientPosition", "PatientOrientationCodeSequence", "SeriesDescription", "ProtocolName", "StudyDescription"),
    *("AcquisitionDeviceProcessingDescription", "PerformedProcedureStepDescription", "ImageComments"),
)
_DESCRIPTIONS = (
    *("SeriesDescription", "ProtocolName", "StudyDescription", "AcquisitionDeviceProcessingDescription"),
    *("PerformedProcedureStepDescription", "ImageComments"),
)


@dataclass(frozen=True)
class ScannedFile:
    """What one header says; nothing of it but numbers, dates as differences and known words is ever written.

    Attributes:
        path: The file.
        kind: "ct", "radiograph", or "other".
        modality, sop_class_uid, sop_instance_uid, study_uid, series_uid, image_type, body_part: As in the header.
        patient_key: Hashes of who it shows (see `patient_identity`); None if nothing says it.
        patient_id, name, birth_date: Identification as text.
        sex: "F", "M", or nothing.
        age_years: Age when it was taken, whole years; None where nothing says it.
        date: Day on which it was taken; None where nothing says it.
        time: Time of the acquisition as text; empty where nothing says it.
        order: Series number and instance number.
        frames: Number of frames.
        size: Rows and columns.
        kernel, thickness: Of a CT, as text.
        laterality, intent: ImageLaterality (else Laterality) and PresentationIntentType, upper case.
        position: PatientPosition, upper case.
        orientation_codes: Values of PatientOrientationCodeSequence and of its modifiers.
        description: Descriptions of series, protocol, study and procedure, joined, in lower case.
    """

    path: Path
    kind: str
    modality: str
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    image_type: tuple[str, ...]
    body_part: str
    patient_key: str | None
    patient_id: str
    name: str
    birth_date: str
    sex: str
    age_years: int | None
    date: datetime.date | None
    time: str
    order: tuple[int, int]
    frames: int
    size: tuple[int, int]
    kernel: str
    thickness: str
    laterality: str
    intent: str
    position: str
    orientation_codes: tuple[str, ...]
    description: str = field(repr=False)


@dataclass(frozen=True)
class TreeScan:
    """Every file of a tree.

    Attributes:
        files: Those that are DICOM images, each SOP instance once, in the order of their paths.
        left_out: Path and reason of every other file that was opened.
    """

    files: tuple[ScannedFile, ...]
    left_out: tuple[tuple[Path, str], ...]


def scan_tree(
    folders: Iterable[Path], *, n_jobs: int = 1, on_progress: Callable[[int, int], None] | None = None
) -> TreeScan:
    """Read the header of every DICOM file below some folders.

    Args:
        folders: Folders, looked through to the bottom.
        n_jobs: Number of processes.
        on_progress: Called with the number of files that are done, and of all.
    """
    paths = sorted({path for folder in folders for path in find_dicom_files(folder)})
    chunks = [(tuple(paths[first : first + _CHUNK]),) for first in range(0, len(paths), _CHUNK)]
    files: list[ScannedFile] = []
    left_out: list[tuple[Path, str]] = []
    done = 0
    if on_progress is not None:
        on_progress(0, len(paths))
    for found, unread in run_in_pool(scan_files, chunks, n_jobs):
        files += found
        left_out += unread
        done += len(found) + len(unread)
        if on_progress is not None:
            on_progress(done, len(paths))
    unique: dict[str, ScannedFile] = {}
    for file in sorted(files, key=lambda file: file.path):
        if file.sop_instance_uid and file.sop_instance_uid in unique:
            left_out.append((file.path, "a copy of another file"))
        else:
            unique[file.sop_instance_uid or str(file.path)] = file
    return TreeScan(tuple(unique.values()), tuple(sorted(left_out)))


def scan_files(paths: Sequence[Path]) -> tuple[list[ScannedFile], list[tuple[Path, str]]]:
    """Read the headers of some files; returns what was found, and why the others were left out."""
    found, left_out = [], []
    for path in paths:
        try:
            found.append(scan_file(path))
        except UnreadableError as error:
            left_out.append((path, str(error) if is_dicom(path) else "no DICOM"))
    return found, left_out


def scan_file(path: Path) -> ScannedFile:
    """Read the header of one file.

    Raises:
        UnreadableError: It is empty, no DICOM image, or damaged.
    """
    data_set = read_data_set(path, only=_TAGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydicom would print quotes the file
        tags = TagReader(data_set)
        date, birth_date = _find_date(tags), tags.text("PatientBirthDate")
        identity = tuple(tags.text(name) for name in ("PatientID", "PatientBirthDate", "PatientName", "PatientSex"))
        sex = tags.upper("PatientSex")
        return ScannedFile(
            path=path,
            kind=_find_kind(tags),
            modality=tags.upper("Modality"),
            sop_class_uid=tags.text("SOPClassUID"),
            sop_instance_uid=tags.text("SOPInstanceUID"),
            study_uid=tags.text("StudyInstanceUID"),
            series_uid=tags.text("SeriesInstanceUID"),
            image_type=tags.words("ImageType"),
            body_part=tags.upper("BodyPartExamined"),
            patient_key=make_patient_key(*identity),
            patient_id=tags.text("PatientID"),
            name=tags.text("PatientName"),
            birth_date=birth_date,
            sex=sex if sex in ("F", "M") else "",
            age_years=_find_age(tags.text("PatientAge"), _parse_date(birth_date), date),
            date=date,
            time=tags.text("AcquisitionTime") or tags.text("AcquisitionDateTime")[8:] or tags.text("ContentTime"),
            order=(tags.whole("SeriesNumber") or 0, tags.whole("InstanceNumber") or 0),
            frames=tags.whole("NumberOfFrames") or 1,
            size=(tags.whole("Rows") or 0, tags.whole("Columns") or 0),
            kernel=tags.text("ConvolutionKernel").replace("\\", "/")[:16],
            thickness=tags.text("SliceThickness")[:8],
            laterality=tags.upper("ImageLaterality") or tags.upper("Laterality"),
            intent=tags.upper("PresentationIntentType"),
            position=tags.upper("PatientPosition"),
            orientation_codes=_find_orientation_codes(tags),
            description=" ".join(filter(None, map(tags.text, _DESCRIPTIONS))).lower(),
        )


def _find_kind(tags: TagReader) -> str:
    """Whether a header is a CT slice's, a radiograph's, or another object's."""
    modality, sop_class = tags.upper("Modality"), tags.text("SOPClassUID")
    if modality == "CT" and sop_class in (CT_IMAGE, *ENHANCED_CT) and not is_localizer(tags.words("ImageType")):
        return "ct"
    has_image = bool(tags.whole("Rows")) and bool(tags.whole("Columns"))
    return "radiograph" if has_image and modality in RADIOGRAPH_MODALITIES else "other"


def _find_orientation_codes(tags: TagReader) -> tuple[str, ...]:
    nested = "PatientOrientationModifierCodeSequence"
    return tags.items("PatientOrientationCodeSequence", "CodeValue") + tags.nested_items(
        "PatientOrientationCodeSequence", nested, "CodeValue"
    )


def _find_date(tags: TagReader) -> datetime.date | None:
    """The day of the acquisition, else of the content, else of the study."""
    for name in ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "StudyDate"):
        if (date := _parse_date(tags.text(name))) is not None:
            return date
    return None


def _parse_date(text: str) -> datetime.date | None:
    """A day as DICOM writes it, YYYYMMDD or YYYY.MM.DD; None where it is none."""
    digits = text.replace(".", "").replace("-", "")[:8]
    try:
        return datetime.datetime.strptime(digits, "%Y%m%d").date()  # a day has no time zone
    except ValueError:
        return None


def _find_age(text: str, born: datetime.date | None, taken: datetime.date | None) -> int | None:
    """Whole years by PatientAge, else by the dates; ages above 89 become 90, since they identify."""
    if len(text) == 4 and text[:3].isdecimal() and text[3] == "Y":
        years = int(text[:3])
    elif born is not None and taken is not None and born <= taken:
        years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    else:
        return None
    return min(years, 90)
