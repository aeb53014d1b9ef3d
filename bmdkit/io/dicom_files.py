"""DICOM files: which files of a folder should be DICOM, and their data sets read, whatever is wrong with them."""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import FileDataset

UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes whose pixels are plain numbers: implicit and explicit little endian, explicit big endian."""

_LARGE_BYTES = 1 << 16
_PIXEL_DATA, _UNDEFINED = 0x7FE00010, 0xFFFFFFFF
_MAY_FOLLOW = (  # signatures and trailing padding, in both byte orders
    b"\xfa\xff\xfa\xff",
    b"\xfc\xff\xfc\xff",
    b"\xff\xfa\xff\xfa",
    b"\xff\xfc\xff\xfc",
)
_NOT_IMAGES = {".txt", ".json", ".csv", ".xml", ".png", ".jpg", ".jpeg", ".md", ".html", ".htm", ".pdf", ".ini", ".db"}
_NOT_IMAGES |= {".exe", ".dll", ".inf", ".log", ".js", ".css", ".zip", ".gz", ".nii", ".yaml", ".yml"}


class UnreadableError(Exception):
    """A file that should be DICOM and cannot be read as such."""


class _BoundedReader(io.BufferedReader):
    """A reader of no more than the file holds: a damaged length may announce 4 GB, which would be allocated."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGE_BYTES:
            size = max(min(size, os.fstat(self.fileno()).st_size - self.tell()), 0)
        return super().read(size)


def find_dicom_files(folder: Path) -> list[Path]:
    """List the files below a folder that should be DICOM: all but hidden ones, DICOMDIR and plainly other kinds."""
    found = (p for p in Path(folder).rglob("*") if p.is_file())
    return sorted(
        p
        for p in found
        if p.suffix.lower() not in _NOT_IMAGES
        and p.name.upper() not in ("DICOMDIR", "LOCKFILE", "VERSION")
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def read_data_set(path: Path, *, pixels: bool = False) -> FileDataset:
    """Read the data set of one file, without its pixels unless they are asked for.

    Raises:
        UnreadableError: It is empty, no DICOM, or damaged.
    """
    import pydicom

    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise UnreadableError("empty file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _BoundedReader(io.FileIO(path)) as stream:
                data_set = pydicom.dcmread(stream, stop_before_pixels=not pixels, force=True)
            if pixels:
                _check_end(path, data_set)
            sop_class = str(data_set.get("SOPClassUID") or "")
            str(data_set.get("Rows")), str(data_set.get("Columns"))
    except UnreadableError:
        raise
    except OSError as error:
        raise UnreadableError(error.strerror or type(error).__name__) from error
    except MemoryError as error:
        if pixels:
            raise
        raise UnreadableError("a tag announces more than the file can hold") from error
    except Exception as error:  # a mutated header can make the parser fail in any way
        raise UnreadableError(f"{type(error).__name__} while reading its header") from error
    if not re.fullmatch(r"[0-9.]{5,64}", sop_class):
        raise UnreadableError("no DICOM image (it has no SOP Class UID)")
    if "TransferSyntaxUID" not in data_set.file_meta:
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

        implicit = data_set.original_encoding[0]
        data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return data_set


def _check_end(path: Path, data_set: FileDataset) -> None:
    """Make sure that uncompressed pixels end where the file ends: bytes slipped into a file shift its pixels."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    element = cast("RawDataElement | None", data_set.get_item(_PIXEL_DATA) if _PIXEL_DATA in data_set else None)
    if (
        element is None
        or element.length == _UNDEFINED
        or data_set.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    ):
        return
    end = element.value_tell + element.length
    with path.open("rb") as handle:
        handle.seek(end)
        after = handle.read(4)
    if after and after not in _MAY_FOLLOW:
        raise UnreadableError("data after its pixels, so bytes were inserted or the file is damaged")
