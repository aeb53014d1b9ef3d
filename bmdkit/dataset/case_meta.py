"""meta.json of a case: what it was made of, what became of its pairs, and the hash of every file of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bmdkit.dataset.layout import meta_file
from bmdkit.dataset.manifest import LeftOut, PairRow, Status
from bmdkit.io.results import sha256_of, write_json

_HASH = "sealed"
"""Name under which the file holds the hash of the rest of it."""


@dataclass(frozen=True)
class CaseMeta:
    """What a case says of itself; None stands where it does not say.

    Attributes:
        patient_id: Identifier of the case.
        status: ok, quarantined (something is left out) or failed.
        data: simulated, where bmdkit simulated the patient.
        bmdkit: Version of the package.
        schema: Number of `fingerprint.SCHEMA`.
        device: cpu or cuda.
        key: Hash of everything that the outputs depend on.
        mineral_factor: Bone mineral of a simulated patient.
        simulated: Sex and site of a simulated patient, where the settings have such.
        radiographs: True cameras and angles of a simulated patient's radiographs.
        inputs: Hash of each input by its role.
        settings: Settings of the build.
        registrations: Hash of what each radiograph's registration depends on, by name.
        notes: What a user should know.
        pairs: Rows of the manifest.
        outputs: Hash of each file by its path in the dataset.
    """

    patient_id: str
    status: Status
    data: str | None = None
    bmdkit: str | None = None
    schema: int | None = None
    device: str | None = None
    key: str | None = None
    mineral_factor: float | None = None
    simulated: Mapping[str, Any] | None = None
    radiographs: tuple[Mapping[str, Any], ...] | None = None
    inputs: Mapping[str, str | None] | None = None
    settings: Mapping[str, Any] | None = None
    registrations: Mapping[str, str] | None = None
    notes: tuple[str, ...] | None = None
    pairs: tuple[PairRow, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CaseMeta:
        """Read the content of a meta.json.

        Raises:
            TypeError: Something that every case says is missing, or a pair is no row.
        """
        names = {item.name for item in fields(cls)} - {"pairs"}
        pairs = tuple(PairRow.from_dict(row) for row in data.get("pairs", ()))
        return cls(**{name: value for name, value in data.items() if name in names}, pairs=pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without what is not said."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        plain["pairs"] = [row.to_dict() for row in self.pairs]
        return {name: value for name, value in plain.items() if value is not None}

    @property
    def has_failed_since(self) -> bool:
        """Whether a later build of a usable pair failed."""
        return any(row.has_failed_since for row in self.pairs)

    def note_failure(self, why: LeftOut) -> CaseMeta:
        """Return the same with why a later build failed; all values stay."""
        return replace(self, pairs=tuple(row.note_failure(why) for row in self.pairs))

    def clear_failure(self) -> CaseMeta:
        """Return the same as it was before a later build failed."""
        return replace(self, pairs=tuple(row.clear_failure() for row in self.pairs))


def hash_data(value: Any) -> str:
    """Return the SHA-256 of plain nested data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_meta(root: Path, meta: CaseMeta) -> None:
    """Write the meta.json of a case, with a hash of its own content.

    Args:
        root: Folder of a dataset, or the staging folder of the case.
        meta: What the case says of itself.
    """
    plain = json.loads(json.dumps(meta.to_dict()))
    write_json(meta_file(root, meta.patient_id), {**plain, _HASH: hash_data(plain)})


def read_meta(root: Path, patient_id: str) -> CaseMeta | None:
    """Read the meta.json of a case; None when there is none or it is not as it was written.

    Args:
        root: Folder of a dataset, or the staging folder of the case.
        patient_id: Identifier of the case.
    """
    try:
        text = meta_file(root, patient_id).read_bytes().decode("utf-8")
        plain = json.loads(text)
        stated = plain.pop(_HASH)
        return CaseMeta.from_dict(plain) if text.endswith("}\n") and hash_data(plain) == stated else None
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None


def find_damage(root: Path, meta: CaseMeta) -> Iterator[str]:
    """Find the files that a meta.json lists and that are missing or changed.

    Args:
        root: Folder of a dataset, or the staging folder of the case.
        meta: What the case says of itself.

    Yields:
        Paths relative to `root`.
    """
    for name, expected in meta.outputs.items():
        try:
            whole = sha256_of(root / name) == expected
        except OSError:
            whole = False
        if not whole:
            yield name


def is_good(root: Path, meta: CaseMeta | None) -> bool:
    """Whether a case came out, is whole, and has a pair that can be used."""
    if meta is None or meta.status == "failed" or not any(row.is_ok for row in meta.pairs):
        return False
    return not any(find_damage(root, meta))
