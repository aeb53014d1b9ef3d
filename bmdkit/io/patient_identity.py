"""Who an image shows, as hashes that can be compared and are never written out."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from bmdkit.errors import CaseError


def make_patient_key(patient_id: str, birth_date: str, name: str, sex: str) -> str | None:
    """Hash the tags that say who an image shows.

    Args:
        patient_id: PatientID.
        birth_date: PatientBirthDate.
        name: PatientName; the order and case of its words do not matter.
        sex: PatientSex; only M and F count.

    Returns:
        One hash for each tag that is filled; None if none is.
    """
    sex = sex.upper()
    parts = {
        "id": patient_id.casefold(),
        "birth": re.sub(r"\D", "", birth_date),
        "name": " ".join(sorted(re.findall(r"[^\W\d_]+", name.casefold()))),
        "sex": sex if sex in ("M", "F") else "",
    }
    hashed = [f"{key}:{hashlib.sha256(f'{key}={v}'.encode()).hexdigest()[:24]}" for key, v in parts.items() if v]
    return "|".join(hashed) or None


def list_differences(one: str | None, other: str | None) -> tuple[str, ...]:
    """Say what tells two patient keys apart (id, birth, name, sex).

    A name alone does not tell them apart if identifier and birth date agree.
    """
    if one is None or other is None:
        return ()
    a, b = (dict(part.split(":") for part in key.split("|")) for key in (one, other))
    apart = [key for key in ("id", "birth", "name", "sex") if key in a and key in b and a[key] != b[key]]
    if apart == ["name"] and all(key in a and key in b for key in ("id", "birth")):
        return ()
    return tuple(apart)


def check_same_patient(
    ct_key: str | None, xray_key: str | None, *, case: str | None = None, file: str | Path | None = None
) -> None:
    """Make sure that a CT and a radiograph do not name different patients; a key that is None proves nothing.

    Raises:
        CaseError: They do.
    """
    apart = list_differences(ct_key, xray_key)
    if apart:
        tags = {"id": "PatientID", "birth": "PatientBirthDate", "name": "PatientName", "sex": "PatientSex"}
        raise CaseError(
            "BMD-XR-021",
            f"{', '.join(tags[key] for key in apart)} differ between CT and radiograph.",
            case=case,
            file=file,
        )
