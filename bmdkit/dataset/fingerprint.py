"""What a case's outputs depend on: inputs, settings and code, as hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.case import Case
from bmdkit.dataset.bone_labels import choose_label_source, hash_model
from bmdkit.dataset.case_meta import hash_data
from bmdkit.dataset.commit import hash_input
from bmdkit.dataset.input_checksums import InputChecksums
from bmdkit.dataset.settings import BuildConfig

SCHEMA = 3
"""Raised whenever the code makes other results from the same inputs and settings."""

BEFORE_PAIRS = ("ct", "calibration", "labels", "segmentation", "registration", "xray", "seed")
"""Settings that a registration depends on."""

XRAY = "xray:"
"""Starts the role of a radiograph; its name follows."""


@dataclass(frozen=True)
class Fingerprint:
    """What a case's outputs depend on, as hashes.

    Attributes:
        inputs: Hash of each input by role: ct, labels, model, calibration, landmarks_<side>, xray:<name>.
        key: Hash of everything.
        registrations: Hash of what each radiograph's registration depends on, by name.
        changed: Changes of each input since it was sealed, by role; empty where the cohort is not sealed.
    """

    inputs: Mapping[str, str | None]
    key: str
    registrations: Mapping[str, str]
    changed: Mapping[str, str] = field(default_factory=dict)


def fingerprint_case(
    case: Case, config: BuildConfig, names: Mapping[Path, str], checksums: InputChecksums | None = None
) -> Fingerprint:
    """Hash all that the outputs of a case depend on; the same whatever the order of its rows.

    The device is no part of it: a finished case is kept wherever it was made, and says so in its meta.json.
    """
    found: dict[Path, str] = {}
    files = {"ct": case.ct, "labels": case.labels, "calibration": case.calibration}
    files |= {f"landmarks_{side}": case.landmarks_of(side) for side in case.sides}
    inputs = {role: hash_input(path, found) for role, path in files.items()}
    inputs |= {"model": hash_model(case, config)} if choose_label_source(case, config) == "model" else {}
    settings = to_dict(config)
    code = {"schema": SCHEMA, "version": __version__}
    shared = {name: settings[name] for name in BEFORE_PAIRS}
    upstream = [dict(inputs), shared, code, case.patient_id]
    radiographs = {name: hash_input(path, found) for path, name in names.items()}
    rows = sorted(
        (names[row.xray], row.side, row.pose, str(row.dxa_bmd_g_cm2), str(row.qct_bmd_mg_cm3)) for row in case.rows
    )
    inputs |= {f"{XRAY}{name}": value for name, value in radiographs.items()}
    files |= {f"{XRAY}{name}": path for path, name in names.items()}
    changed = {} if checksums is None else checksums.find_changes(files, found)
    partners = {name: [names[each] for each in case.views_with(path) if each != path] for path, name in names.items()}
    together = [[name, *others] for name, others in sorted(partners.items()) if others]
    key = hash_data([upstream, settings | {"folds": None}, inputs, rows, *changed.values(), *together])
    registrations = {
        name: hash_data([upstream, name, value, *([each, radiographs[each]] for each in partners[name])])
        for name, value in radiographs.items()
    }
    return Fingerprint(inputs, key, registrations, changed)
