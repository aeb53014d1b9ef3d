"""Pseudonyms of patients, new UIDs, and the key that both come from, kept beside an output and never in it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from bmdkit.io.results import read_csv, write_csv

KEYS_ENDING = ".keys.csv"
"""Ending of the map beside an output that tells who is who."""

_SECRET = ".keys.secret"
_COLUMNS = ("case", "patient_id")


def make_pseudonym(patient_id: str, key: bytes) -> str:
    """Make `sub-` and the first 12 hexadecimal digits of HMAC-SHA-256 of an identifier."""
    return "sub-" + _hash(patient_id, key).hexdigest()[:12]


def make_uid(uid: str, key: bytes) -> str:
    """Make another UID of one: the same for the same key, and not to be traced back without it.

    Example:
        >>> make_uid("1.2.3", b"key") == make_uid("1.2.3", b"key") != make_uid("1.2.4", b"key")
        True
    """
    return f"2.25.{int.from_bytes(_hash(uid, key).digest()[:16], 'big')}"


def name_beside(out: Path, ending: str) -> Path:
    """Name a file that belongs to a folder and lies beside it."""
    out = out.absolute()
    return out.with_name(out.name + ending)


def keep_key(out: Path, *, dry: bool = False) -> bytes:
    """The secret of an output's pseudonyms, made once and kept beside it, readable by its owner only.

    Args:
        out: Folder of the output.
        dry: Write nothing; a secret that is not there yet is then another one each time.
    """
    path = name_beside(out, _SECRET)
    if path.exists():
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    key = secrets.token_bytes(32)
    if not dry:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(key.hex() + "\n")
    return key


def write_key_map(path: Path, keys: Mapping[str, str]) -> None:
    """Write which pseudonym stands for whom, readable by its owner only; to be kept outside the output.

    Args:
        path: File of the map.
        keys: Pseudonym -> identifier.
    """
    write_csv(path, [dict(zip(_COLUMNS, pair, strict=True)) for pair in sorted(keys.items())], _COLUMNS, mode=0o600)


def read_key_map(out: Path) -> dict[str, str]:
    """Pseudonym -> identifier, as the map beside an output has it; empty without one."""
    path = name_beside(out, KEYS_ENDING)
    if not path.exists():
        return {}
    return {row["case"]: row["patient_id"] for row in read_csv(path) if row.get("case") and row.get("patient_id")}


def add_to_key_map(out: Path, keys: Mapping[str, str]) -> None:
    """Add pseudonyms to the map beside an output; those of earlier runs stay."""
    write_key_map(name_beside(out, KEYS_ENDING), read_key_map(out) | dict(keys))


def _hash(text: str, key: bytes) -> hmac.HMAC:
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
