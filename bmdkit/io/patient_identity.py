"""Who an image shows, as hashes that can be compared and are never written out."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from bmdkit.errors import CaseError

SamePerson = Literal["ids", "strict", "given"]
"""How a CT and a radiograph are held against each other: by identifier and birth date; by all tags; not at all."""

PLACEHOLDERS = frozenset(
    """
    anon anonym anonymous anonymized anonymised anonymouspatient anonymizedpatient anonymisedpatient deidentified
    deidentifiedpatient unidentified unknown unknownpatient unnamed noname noid nopatientid none null nil na
    notavailable notapplicable notknown missing empty blank removed redacted deleted hidden masked private
    confidential patient patientid test testpatient phantom default dummy dicom id pid
    """.split()  # noqa: SIM905 (a list of fifty strings would be fifty lines)
)
"""Identifiers, in lower case and without blanks and signs, that many patients share."""

_PLACEHOLDER = "placeholder"
_TAGS = {"id": "PatientID", "birth": "PatientBirthDate", "name": "PatientName", "sex": "PatientSex"}


def make_patient_key(patient_id: str, birth_date: str, name: str, sex: str) -> str | None:
    """Hash the tags that say who an image shows.

    Args:
        patient_id: PatientID.
        birth_date: PatientBirthDate.
        name: PatientName; the order and case of its words do not matter.
        sex: PatientSex; only M and F count.

    Returns:
        One hash for each tag that is filled, and one of the identifier without leading zeros and blanks; None if
        nothing is filled.
    """
    sex = sex.upper()
    parts = {
        "id": patient_id.casefold(),
        "plain_id": simplify_id(patient_id),
        "birth": re.sub(r"\D", "", birth_date),
        "name": " ".join(sorted(re.findall(r"[^\W\d_]+", name.casefold()))),
        "sex": sex if sex in ("M", "F") else "",
    }
    hashed = [f"{key}:{hashlib.sha256(f'{key}={v}'.encode()).hexdigest()[:24]}" for key, v in parts.items() if v]
    if patient_id and is_placeholder(patient_id):
        hashed = [part for part in hashed if not part.startswith("plain_id:")] + [f"plain_id:{_PLACEHOLDER}"]
    return "|".join(hashed) or None


def is_placeholder(patient_id: str) -> bool:
    """Whether an identifier names nobody: ANONYMOUS, UNKNOWN, zeros only, one letter repeated, and their like.

    Example:
        >>> is_placeholder("Anonymous"), is_placeholder("0000"), is_placeholder("ANON-0042")
        (True, True, False)
    """
    plain = re.sub(r"[\W_]+", "", patient_id.casefold())
    return plain in PLACEHOLDERS or not plain.strip("0") or re.fullmatch(r"x{2,}", plain) is not None


def simplify_id(patient_id: str) -> str:
    """An identifier without blanks and without zeros in front, in lower case."""
    return re.sub(r"\s+", "", patient_id.casefold()).lstrip("0")


def _split(key: str) -> dict[str, str]:
    return dict(part.split(":", 1) for part in key.split("|"))


def list_contradictions(one: str | None, other: str | None) -> tuple[str, ...]:
    """Name the tags that stand in both of two images of one folder and cannot be of one person.

    Identifiers are compared without leading zeros and blanks; what one image does not say contradicts nothing.
    """
    if one is None or other is None:
        return ()
    a, b = _split(one), _split(other)
    number = "id" if _PLACEHOLDER in (a.get("plain_id"), b.get("plain_id")) else "plain_id"
    compared = {"id": number, "birth": "birth", "name": "name", "sex": "sex"}
    return tuple(_TAGS[tag] for tag, part in compared.items() if part in a and part in b and a[part] != b[part])


def check_same_patient(
    ct_key: str | None,
    xray_key: str | None,
    *,
    rule: SamePerson = "ids",
    case: str | None = None,
    file: str | Path | None = None,
) -> tuple[str, ...]:
    """Make sure that a CT and a radiograph do not name different patients; a key that is None proves nothing.

    Args:
        ct_key: Key of the person whom the CT shows.
        xray_key: Key of the person whom the radiograph shows.
        rule: "ids" compares identifiers without leading zeros and blanks, and birth dates where both stand;
            identifiers that are placeholders match nobody, and where one is absent all tags count. "strict" compares
            identifier, birth date, name and sex where both stand, as they are written. "given" believes the caller.
        case: Patient, named in errors.
        file: Radiograph, named in errors.

    Returns:
        A warning if the rule is "given" and the tags differ, else nothing.

    Raises:
        CaseError: They do name different patients (BMD-XR-021).
    """
    if ct_key is None or xray_key is None:
        return ()
    a, b = _split(ct_key), _split(xray_key)
    apart = _list_strict(a, b) if rule == "strict" else _list_by_ids(a, b)
    if not apart:
        return ()
    compared = [tag for tag in _TAGS if tag in a and tag in b]
    alike = [_TAGS[tag] for tag in compared if a[tag] == b[tag]]
    message = "; ".join(apart) + (f" ({', '.join(alike)} agree)" if alike else "")
    if rule == "given":
        return (f"CT and radiograph are taken to be of one person as given, although {message}",)
    raise CaseError("BMD-XR-021", f"{message}; same_person is {rule}.", case=case, file=file)


def _list_strict(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """What differs of all tags; a name alone does not count if identifier and birth date agree."""
    apart = [tag for tag in _TAGS if tag in a and tag in b and a[tag] != b[tag]]
    if apart == ["name"] and all(tag in a and tag in b for tag in ("id", "birth")):
        return []
    return [f"{', '.join(_TAGS[tag] for tag in apart)} differ between CT and radiograph"] if apart else []


def _list_by_ids(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """What differs of identifier and birth date; of name and sex too where identifiers cannot be compared."""
    found = []
    if "plain_id" not in a or "plain_id" not in b:
        return _list_strict(a, b)
    if _PLACEHOLDER in (a["plain_id"], b["plain_id"]):
        found.append("PatientID is a placeholder that names nobody")
    elif a["plain_id"] != b["plain_id"]:
        found.append("PatientID differs between CT and radiograph, also without leading zeros and blanks")
    if "birth" in a and "birth" in b and a["birth"] != b["birth"]:
        found.append("PatientBirthDate differs between CT and radiograph")
    return found
