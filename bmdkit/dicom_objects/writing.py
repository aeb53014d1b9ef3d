"""What all objects share: UIDs from their contents, no clock, and files that appear whole."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmdkit import __version__
from bmdkit.dicom_objects.codes import MANUFACTURER, MODEL
from bmdkit.dicom_objects.source import SourceImages
from bmdkit.io.results import write_bytes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NO_DATE, _NO_TIME = "19000101", "000000"
_OF_THE_MOMENT = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture",
    "ContributionDateTime",
    "ObservationDateTime",
)


def make_identity(source: SourceImages, kind: str, *contents: bytes | str) -> dict[str, Any]:
    """Series and instance of a new object, as the arguments of highdicom's classes.

    The UIDs follow from the source and the contents: equal objects are equal files.

    Args:
        source: The images that it comes from.
        kind: Kind of the object.
        contents: What it holds.
    """
    from pydicom.uid import generate_uid

    digest = hashlib.sha256(f"{__version__} {kind} {source.first.SOPInstanceUID}".encode())
    for piece in contents:
        digest.update(piece.encode() if isinstance(piece, str) else piece)
    own = digest.hexdigest()
    return {
        "series_instance_uid": generate_uid(entropy_srcs=[own, "series"]),
        "series_number": 1,
        "sop_instance_uid": generate_uid(entropy_srcs=[own]),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL,
        "software_versions": __version__,
        "device_serial_number": "none",
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's advice on odd names and UIDs of a source away from users, who cannot follow it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_object(path: Path, data: Dataset, source: SourceImages, description: str) -> None:
    """Write an object whole.

    Its date is that of the source's study: the same input gives the same bytes. Of a pseudonymous source, which has
    no date, it is 1 January 1900 where DICOM wants one.

    Args:
        path: File to be written.
        data: The object.
        source: The images that it comes from.
        description: Text for the description of its series.
    """
    import pydicom
    from pydicom.uid import generate_uid

    for item in (data, *data.get("ContributingEquipmentSequence", ())):
        for word in _OF_THE_MOMENT:
            if word in item:
                delattr(item, word)
    for item in data.get("ContentSequence", ()):
        if "ObservationDateTime" in item:
            del item.ObservationDateTime
    for word in ("SeriesDate", "ContentDate"):
        if word in data:
            setattr(data, word, str(source.first.StudyDate or _NO_DATE))
    for word in ("SeriesTime", "ContentTime"):
        if word in data:
            setattr(data, word, str(source.first.StudyTime or _NO_TIME))
    order = generate_uid(entropy_srcs=[str(data.SOPInstanceUID), "dimensions"])
    for sequence in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in data.get(sequence, ()):
            item.DimensionOrganizationUID = order
    data.SeriesDescription = description
    if source.is_pseudonymous:
        data.PatientIdentityRemoved = "YES"
        data.DeidentificationMethod = "bmdkit: pseudonym, new UIDs, geometry alone"
    buffer = io.BytesIO()
    with quiet():
        pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    write_bytes(path, buffer.getvalue())
