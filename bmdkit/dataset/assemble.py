"""From the finished cases to the dataset: manifest, quarantine list, description and checksums, each written whole."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.case import Case
from bmdkit.core.units import PROJECTION_UNITS
from bmdkit.dataset.case_meta import CaseMeta, read_meta
from bmdkit.dataset.integrity import list_data_files, write_sums
from bmdkit.dataset.layout import (
    DESCRIPTION,
    MANIFEST_CSV,
    MANIFEST_PARQUET,
    PAIR_FOLDERS,
    QUARANTINE_CSV,
    REPORT,
    SUMS,
    DatasetName,
    meta_file,
)
from bmdkit.dataset.manifest import ManifestRow, Status, write_manifest
from bmdkit.dataset.names import name_radiographs, pair_id, shorten_names
from bmdkit.dataset.ratings import apply_rating, read_ratings
from bmdkit.dataset.settings import BuildConfig, TargetQuantity
from bmdkit.io.results import sha256_of, write_json

logger = logging.getLogger(__name__)

KIND = "bmdkit paired hip dataset"
CITATION = (
    "Gu et al., Bone mineral density estimation from a plain X-ray image by learning decomposition into projections of "
    "bone-segmented computed tomography, Medical Image Analysis 90 (2023) 102970, doi 10.1016/j.media.2023.102970"
)
_LIBRARIES = ("numpy", "scipy", "numba", "pydicom", "nibabel", "SimpleITK", "cma", "tifffile")
_FINAL = (SUMS, MANIFEST_CSV, MANIFEST_PARQUET, QUARANTINE_CSV, DESCRIPTION)


def withdraw(out: Path) -> None:
    """Take manifest and checksums away: while cases change, nothing may vouch for the whole."""
    for name in _FINAL:
        with contextlib.suppress(FileNotFoundError):
            (out / name).unlink()


def assemble(
    out: Path,
    cases: Sequence[Case],
    config: BuildConfig,
    *,
    folds: Mapping[str, int],
    carried: Sequence[str],
    anonymous: bool,
) -> tuple[ManifestRow, ...]:
    """Write everything that is about the whole dataset; pairs that a reader has rated bad are left out.

    Args:
        out: Folder of the dataset.
        cases: All cases of the cohort; those without a meta.json are not built yet and have no rows.
        config: Settings of the build.
        folds: Fold of every patient.
        carried: Names of the carried columns.
        anonymous: Whether file names are hidden, as in the build.

    Returns:
        The rows of the manifest.

    Raises:
        PreflightError: The ratings cannot be used (BMD-RAT-001).
    """
    ratings = read_ratings(out)
    rows: list[ManifestRow] = []
    sums: dict[str, str] = {}
    built: list[CaseMeta] = []
    for case in sorted(cases, key=lambda case: case.patient_id):
        meta = read_meta(out, case.patient_id)
        if meta is None:
            continue
        built.append(meta)
        file = meta_file(out, case.patient_id)
        sums |= {**meta.outputs, file.relative_to(out).as_posix(): sha256_of(file)}
        extra = _carry_columns(case, anonymous)
        fold = folds[case.patient_id]
        rated = [apply_rating(row, ratings) for row in meta.pairs]
        rows += [ManifestRow(row, fold, extra.get(row.pair_id, {})) for row in rated]
    _remove_orphans(out, sums)
    write_manifest(out, rows, carried)
    write_json(out / DESCRIPTION, _describe(rows, config, len(cases), built))
    for name in (MANIFEST_CSV, MANIFEST_PARQUET, QUARANTINE_CSV, DESCRIPTION):
        sums[name] = sha256_of(out / name)
    sums |= {name: sha256_of(out / name) for name in list_data_files(out) if name.startswith(f"{REPORT}/")}
    write_sums(out, sums)
    return tuple(rows)


def count_pairs(rows: Iterable[ManifestRow], datasets: Iterable[DatasetName]) -> dict[str, dict[str, int]]:
    """Count the pairs of each dataset by status, as dataset.json holds them."""
    counts = Counter((row.pair.dataset, row.pair.status) for row in rows)
    return {dataset: {status: counts[dataset, status] for status in get_args(Status)} for dataset in datasets}


def _carry_columns(case: Case, anonymous: bool) -> dict[str, dict[str, str]]:
    """The cohort's further columns by pair."""
    names = name_radiographs(case, anonymous=anonymous)
    short = shorten_names(case.patient_id, names.values())
    ids = [pair_id(case.patient_id, short[names[row.xray]], row.side) for row in case.rows]
    kept = [{name: value for name, value in row.carried.items() if name != "fold"} for row in case.rows]
    return dict(zip(ids, kept, strict=True))


def _remove_orphans(out: Path, sums: Mapping[str, str]) -> None:
    """Remove pair folders that no case vouches for: what a killed run left half exchanged."""
    owned = {Path(name).parent for name in sums}
    for folder in PAIR_FOLDERS.values():
        for path in sorted((out / folder).glob("*")):
            if path.is_dir() and path.relative_to(out) not in owned:
                logger.info("removing %s: no case vouches for it", path.relative_to(out))
                shutil.rmtree(path)


def list_library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a result can depend on."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def list_units(targets: TargetQuantity) -> dict[str, str]:
    """List the units of a dataset's files, whose targets show density or HU."""
    return {
        "xray.tif": "[0, 1], brighter = denser",
        "drr.tif": PROJECTION_UNITS[targets],
        "mask.tif": "255 = image, 0 = collimator, marker or padding",
        "density.nii.gz": "mg/cm3; HU in a case whose calibration is none",
        "coordinates": "mm, DICOM LPS (NIfTI files: RAS, as the format wants)",
    }


def _name_data(built: Sequence[CaseMeta]) -> dict[str, str]:
    """What the data are, where the cases say that they were simulated; nothing where none of them does."""
    simulated = sum(meta.data == "simulated" for meta in built)
    if not simulated:
        return {}
    return {"data": "simulated" if simulated == len(built) else "partly simulated"}


def _describe(
    rows: Sequence[ManifestRow], config: BuildConfig, cases: int, built: Sequence[CaseMeta]
) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format": 1,
        **_name_data(built),
        "bmdkit": __version__,
        "libraries": list_library_versions(),
        "units": list_units(config.target_quantity),
        "image": {"rows": config.pairs.rows, "columns": config.pairs.columns, "pages": {"A": 2, "B": 1}},
        "counts": {
            "patients": cases,
            "patients_built": len(built),
            "pairs": count_pairs(rows, config.datasets),
        },
        "configuration": to_dict(config),
        "citation": CITATION,
    }
