"""From the finished cases to the dataset: manifest, quarantine list, description and checksums, each written whole."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.case import Case
from bmdkit.dataset.commit import CASES, META, PAIR_FOLDERS, read_meta
from bmdkit.dataset.integrity import REPORT, SUMS, data_files, write_sums
from bmdkit.dataset.manifest import MANIFEST_CSV, MANIFEST_PARQUET, QUARANTINE_CSV, complete_row, write_manifest
from bmdkit.dataset.names import pair_id, short_names, xray_names
from bmdkit.dataset.settings import BuildConfig
from bmdkit.io.results import sha256_of, write_json

logger = logging.getLogger(__name__)

DESCRIPTION = "dataset.json"
KIND = "bmdkit paired hip dataset"
CITATION = (
    "Gu et al., Bone mineral density estimation from a plain X-ray image by learning decomposition into projections of "
    "bone-segmented computed tomography, Medical Image Analysis 90 (2023) 102970, doi 10.1016/j.media.2023.102970"
)
UNITS = {
    "xray.tif": "[0, 1], brighter = denser",
    "drr.tif": "g/cm2",
    "mask.tif": "255 = image, 0 = collimator, marker or padding",
    "density.nii.gz": "mg/cm3",
    "coordinates": "mm, DICOM LPS (NIfTI files: RAS, as the format wants)",
}
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
) -> list[dict[str, Any]]:
    """Write everything that is about the whole dataset; returns the rows of the manifest.

    Args:
        out: The dataset.
        cases: All of the cohort; those without a meta.json are not built yet and have no rows.
        config: Of the build.
        folds: By patient.
        carried: Names of the carried columns.
        anonymous: As in the build.
    """
    rows: list[dict[str, Any]] = []
    sums: dict[str, str] = {}
    built = 0
    for case in sorted(cases, key=lambda case: case.patient_id):
        meta = read_meta(out, case.patient_id)
        if meta is None:
            continue
        built += 1
        name = f"{CASES}/{case.patient_id}/{META}"
        sums |= meta["outputs"] | {name: sha256_of(out / name)}
        extra = _carried_by_pair(case, anonymous)
        fold = folds[case.patient_id]
        rows += [complete_row(row, fold=fold, carried=extra.get(row["pair_id"], {})) for row in meta["pairs"]]
    _remove_orphans(out, sums)
    write_manifest(out, rows, carried)
    write_json(out / DESCRIPTION, _description(rows, config, len(cases), built))
    for name in (MANIFEST_CSV, MANIFEST_PARQUET, QUARANTINE_CSV, DESCRIPTION):
        sums[name] = sha256_of(out / name)
    sums |= {name: sha256_of(out / name) for name in data_files(out) if name.startswith(f"{REPORT}/")}
    write_sums(out, sums)
    return rows


def _carried_by_pair(case: Case, anonymous: bool) -> dict[str, dict[str, str]]:
    names = xray_names(case, anonymous=anonymous)
    short = short_names(case.patient_id, names.values())
    ids = [pair_id(case.patient_id, short[names[row.xray]], row.side) for row in case.rows]
    kept = [{name: value for name, value in row.carried.items() if name != "fold"} for row in case.rows]
    return dict(zip(ids, kept, strict=True))


def _remove_orphans(out: Path, sums: Mapping[str, str]) -> None:
    """Pair folders that no case vouches for: what a killed run left half exchanged."""
    owned = {Path(name).parent for name in sums}
    for folder in PAIR_FOLDERS.values():
        for path in sorted((out / folder).glob("*")):
            if path.is_dir() and path.relative_to(out) not in owned:
                logger.info("removing %s: no case vouches for it", path.relative_to(out))
                shutil.rmtree(path)


def library_versions() -> dict[str, str]:
    """Of the libraries that a result can depend on."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def _description(rows: Sequence[Mapping[str, Any]], config: BuildConfig, cases: int, built: int) -> dict[str, Any]:
    status = Counter((row["dataset"], row["status"]) for row in rows)
    return {
        "kind": KIND,
        "format": 1,
        "bmdkit": __version__,
        "libraries": library_versions(),
        "units": UNITS,
        "image": {"rows": config.pairs.rows, "columns": config.pairs.columns, "pages": {"A": 2, "B": 1}},
        "counts": {
            "patients": cases,
            "patients_built": built,
            "pairs": {
                dataset: {state: status[dataset, state] for state in ("ok", "quarantined", "failed")}
                for dataset in config.datasets
            },
        },
        "configuration": to_dict(config),
        "citation": CITATION,
    }
