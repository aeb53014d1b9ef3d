"""DICOM files found and their headers read, whatever is wrong with them; who an image shows, as a hash."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from pathlib import Path

from bmdkit.errors import CaseError

MAX_SIDE = 8192
_LARGE = 1 << 16
_PIXEL_DATA, _UNDEFINED = 0x7FE00010, 0xFFFFFFFF
_MAY_FOLLOW = (  # signatures and trailing padding, in both byte orders
    b"\xfa\xff\xfa\xff",
    b"\xfc\xff\xfc\xff",
    b"\xff\xfa\xff\xfa",
    b"\xff\xfc\xff\xfc",
)
_NOT_IMAGES = {".txt", ".json", ".csv", ".xml", ".png", ".jpg", ".jpeg", ".md", ".html", ".htm", ".pdf", ".ini", ".db"}
_NOT_IMAGES |= {".exe", ".dll", ".inf", ".log", ".js", ".css", ".zip", ".gz", ".nii", ".yaml", ".yml"}


class _Bounded(io.BufferedReader):
    """Reads no more than the file holds: asked for the 4 GB that a damaged length announces, it would allocate them."""

    def read(self, size=-1, /):
        if size is not None and size > _LARGE:
            size = max(min(size, os.fstat(self.fileno()).st_size - self.tell()), 0)
        return super().read(size)


class UnreadableError(Exception):
    """A file that should be DICOM and cannot be read as such."""


def dicom_files(folder: Path) -> list[Path]:
    """The files below a folder that should be DICOM: all but hidden ones, DICOMDIR and plainly other kinds."""
    found = (p for p in Path(folder).rglob("*") if p.is_file())
    return sorted(
        p
        for p in found
        if p.suffix.lower() not in _NOT_IMAGES
        and p.name.upper() not in ("DICOMDIR", "LOCKFILE", "VERSION")
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def read_header(path: Path, *, pixels: bool = False):
    """The data set of one file, without its pixels unless they are asked for.

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
            with _Bounded(io.FileIO(path)) as stream:
                header = pydicom.dcmread(stream, stop_before_pixels=not pixels, force=True)
            if pixels:
                _check_end(path, header)
            sop_class = str(header.get("SOPClassUID") or "")
            str(header.get("Rows")), str(header.get("Columns"))
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
    if "TransferSyntaxUID" not in header.file_meta:
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

        implicit = header.original_encoding[0]
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return header


def _check_end(path: Path, header) -> None:
    """Make sure that uncompressed pixels end where the file ends: bytes slipped into a file shift its pixels."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    element = header.get_item(_PIXEL_DATA) if _PIXEL_DATA in header else None
    if (
        element is None
        or element.length == _UNDEFINED
        or header.file_meta.get("TransferSyntaxUID") == (DeflatedExplicitVRLittleEndian)
    ):
        return
    end = element.value_tell + element.length
    with path.open("rb") as handle:
        handle.seek(end)
        after = handle.read(4)
    if after and after not in _MAY_FOLLOW:
        raise UnreadableError("data after its pixels, so bytes were inserted or the file is damaged")


def text(header, name: str) -> str:
    """A tag as plain text, several values joined by a backslash; empty if it is absent or damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pydicom would print quotes the file
            value = header.get(name)
            if value is None:
                return ""
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                return str(value).strip()
            return "\\".join(str(v).strip() for v in value)
    except MemoryError:
        raise
    except Exception:  # a value that cannot be decoded counts as absent
        return ""


def words(header, name: str) -> list[str]:
    """The values of a tag as upper-case words."""
    return [w.strip().upper() for w in text(header, name).split("\\") if w.strip()]


def number(header, name: str) -> float | None:
    """The first value of a tag as a finite number, or None."""
    found = numbers(header, name)
    return found[0] if found else None


def numbers(header, name: str) -> list[float] | None:
    """All values of a tag as finite numbers; None if it is absent or any of them is none."""
    parts = text(header, name).split("\\")
    try:
        values = [float(p) for p in parts]
    except ValueError:
        return None
    return values if all(abs(v) < 1e30 for v in values) else None


def whole(header, name: str) -> int | None:
    """A tag as a whole number, or None."""
    value = number(header, name)
    return int(value) if value is not None and value == int(value) else None


def patient_key(header) -> str | None:
    """Hashes of the tags that say who an image shows; None if none of them is filled. Never to be written out."""
    name = sorted(re.findall(r"[^\W\d_]+", text(header, "PatientName").casefold()))
    sex = text(header, "PatientSex").upper()
    parts = {
        "id": text(header, "PatientID").casefold(),
        "birth": re.sub(r"\D", "", text(header, "PatientBirthDate")),
        "name": " ".join(name),
        "sex": sex if sex in ("M", "F") else "",
    }
    hashed = [f"{key}:{hashlib.sha256(f'{key}={v}'.encode()).hexdigest()[:24]}" for key, v in parts.items() if v]
    return "|".join(hashed) or None


def differing(one: str | None, other: str | None) -> tuple[str, ...]:
    """What tells two patient keys apart (id, birth, name, sex); a name alone does not if id and birth date agree."""
    if one is None or other is None:
        return ()
    a, b = (dict(part.split(":") for part in key.split("|")) for key in (one, other))
    apart = [key for key in ("id", "birth", "name", "sex") if key in a and key in b and a[key] != b[key]]
    if apart == ["name"] and all(key in a and key in b for key in ("id", "birth")):
        return ()
    return tuple(apart)


def check_same_patient(ct_key: str | None, xray_key: str | None, *, case: str | None = None, file=None) -> None:
    """Make sure that a CT and a radiograph do not name different patients; a key that is None proves nothing.

    Raises:
        CaseError: They do.
    """
    apart = differing(ct_key, xray_key)
    if apart:
        tags = {"id": "PatientID", "birth": "PatientBirthDate", "name": "PatientName", "sex": "PatientSex"}
        raise CaseError(
            "BMD-XR-021",
            f"{', '.join(tags[key] for key in apart)} differ between CT and radiograph.",
            case=case,
            file=file,
        )
