"""DICOM files: which files of a folder should be DICOM, and their data sets read, whatever is wrong with them."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import FileDataset

UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes whose pixels are plain numbers: implicit and explicit little endian, explicit big endian."""

_DIRECTORY_OF_DISC = "1.2.840.10008.1.3.10"
_LARGE_BYTES = 1 << 16
_MOST_BYTES_AFTER = 1 << 24
_PIXEL_DATA, _UNDEFINED = 0x7FE00010, 0xFFFFFFFF
_PIXEL_GROUP, _LAST_GROUP = 0x7FE0, 0xFFFC
_LONG_VALUES = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV")
_DICOM_SUFFIXES = {".dcm", ".dicom", ".dic", ".ima", ".dc3"}
_NOT_IMAGES = {".txt", ".json", ".csv", ".xml", ".png", ".jpg", ".jpeg", ".md", ".html", ".htm", ".pdf", ".ini", ".db"}
_NOT_IMAGES |= {".exe", ".dll", ".inf", ".log", ".js", ".css", ".zip", ".gz", ".nii", ".yaml", ".yml"}


class UnreadableError(Exception):
    """A file that should be DICOM and cannot be read as such."""


class OtherObjectError(UnreadableError):
    """A sound DICOM file that is no image, such as a directory of a disc under another name."""


class MissingDecoderError(UnreadableError):
    """The file may be sound, but no installed package decodes its pixels."""


class _BoundedReader(io.BufferedReader):
    """A reader of no more than the file holds: a damaged length may announce 4 GB, which would be allocated."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGE_BYTES:
            size = max(min(size, os.fstat(self.fileno()).st_size - self.tell()), 0)
        return super().read(size)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


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


def read_data_set(path: Path, *, pixels: bool = False, only: Sequence[str] | None = None) -> FileDataset:
    """Read the data set of one file, without its pixels unless they are asked for.

    Args:
        path: The file.
        pixels: Whether the pixels are read too.
        only: Names of the tags to keep, which is quicker; None keeps all.

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
                data_set = pydicom.dcmread(
                    stream, stop_before_pixels=not pixels, force=True, specific_tags=None if only is None else [*only]
                )
            sop_class = str(data_set.get("SOPClassUID") or "")
            if not sop_class and data_set.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY_OF_DISC:
                raise OtherObjectError("the directory of a disc")
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
        from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

        is_implicit, is_little = data_set.original_encoding
        plain = ExplicitVRLittleEndian if is_little is not False else ExplicitVRBigEndian
        data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else plain
    return data_set


def may_be_damaged_slice(path: Path, slices: Iterable[Path]) -> bool:
    """Whether a file that cannot be read was a DICOM image rather than something that lies beside them.

    It was if it says so itself, has a suffix of DICOM, or is named as the readable slices are, digits apart.
    """
    if is_dicom(path) or path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    return _without_digits(path) in {_without_digits(piece) for piece in slices}


def _without_digits(path: Path) -> str:
    return re.sub(r"[0-9]+", "#", path.name.lower())


def describe_end(path: Path, data_set: FileDataset) -> str | None:
    """Say what follows the pixels of a file; None if nothing does.

    Zeros that fill a file up, and data elements of later groups, are harmless (PS3.5 8.1.1 asks readers to accept
    padding). Anything else shows that bytes were inserted, which shifts the pixels.

    Raises:
        UnreadableError: What follows is neither padding nor data elements.
    """
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    try:
        element = cast("RawDataElement | None", data_set.get_item(_PIXEL_DATA) if _PIXEL_DATA in data_set else None)
    except MemoryError:
        raise
    except Exception as error:  # a mutated element can fail in any way
        raise UnreadableError(f"{type(error).__name__} while reading its pixels") from error
    syntax = str(data_set.file_meta.TransferSyntaxUID)
    if element is None or element.length == _UNDEFINED or syntax == DeflatedExplicitVRLittleEndian:
        return None
    with path.open("rb") as handle:
        handle.seek(element.value_tell + element.length)
        after = handle.read(_MOST_BYTES_AFTER)
    if not after:
        return None
    if not after.strip(b"\0"):
        return "bytes of padding after the pixels"
    order: Literal["little", "big"] = "big" if syntax == UNCOMPRESSED[2] else "little"
    if _holds_elements(after, is_implicit=syntax == UNCOMPRESSED[0], order=order):
        return "data elements after the pixels"
    raise UnreadableError("data after its pixels, so bytes were inserted or the file is damaged")


def _holds_elements(data: bytes, *, is_implicit: bool, order: Literal["little", "big"]) -> bool:
    """Whether bytes are data elements of groups after the pixels, in ascending order, up to padding."""
    place, last, end = 0, (_PIXEL_GROUP << 16) + 0x10, len(data.rstrip(b"\0"))
    while place < end:
        if len(data) - place < 8:
            return False
        group, number = (int.from_bytes(data[place + n : place + n + 2], order) for n in (0, 2))
        tag = (group << 16) + number
        if not last < tag <= (_LAST_GROUP << 16) + 0xFFFF:
            return False
        kind = data[place + 4 : place + 6]
        if is_implicit:
            length, place = int.from_bytes(data[place + 4 : place + 8], order), place + 8
        elif kind in _LONG_VALUES:
            length, place = int.from_bytes(data[place + 8 : place + 12], order), place + 12
        elif kind.isalpha() and kind.isupper():
            length, place = int.from_bytes(data[place + 6 : place + 8], order), place + 8
        else:
            return False
        if length == _UNDEFINED:  # a private sequence: its items are not looked into
            return True
        if length > len(data) - place and len(data) < _MOST_BYTES_AFTER:
            return False
        place, last = place + length, tag
    return True
