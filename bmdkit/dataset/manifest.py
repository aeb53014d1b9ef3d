"""The manifest: one row per pair, and the same in quarantine.csv for those that are not fit to be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bmdkit.core.case import Case
from bmdkit.errors import PreflightError
from bmdkit.io.results import whole_file, write_csv

COLUMNS = (
    "pair_id",
    "dataset",
    "patient_id",
    "side",
    "pose",
    "xray",
    "drr",
    "mask",
    "dxa_bmd_g_cm2",
    "qct_bmd_mg_cm3",
    "ct_abmd_g_cm2",
    "pf_drr_mean_g_cm2",
    "calibration",
    "calibration_slope",
    "calibration_intercept",
    "segmentation_uncertainty",
    "registration_similarity",
    "verdict",
    "status",
    "code",
    "reason",
    "fold",
    "xray_sha256",
    "drr_sha256",
    "mask_sha256",
)
"""As in the contract; the columns carried from the cohort follow."""

NUMBERS = (
    "dxa_bmd_g_cm2",
    "qct_bmd_mg_cm3",
    "ct_abmd_g_cm2",
    "pf_drr_mean_g_cm2",
    "calibration_slope",
    "calibration_intercept",
    "segmentation_uncertainty",
    "registration_similarity",
)

QUARANTINE_COLUMNS = ("pair_id", "dataset", "patient_id", "side", "pose", "status", "code", "reason")

MANIFEST_CSV, MANIFEST_PARQUET, QUARANTINE_CSV = "manifest.csv", "manifest.parquet", "quarantine.csv"


def carried_columns(cases: Iterable[Case]) -> tuple[str, ...]:
    """The cohort's further columns, in its order, without `fold`, which the manifest has itself.

    Raises:
        PreflightError: One bears the name of a column of the manifest (BMD-RUN-032).
    """
    names = tuple(dict.fromkeys(name for case in cases for row in case.rows for name in row.carried))
    clash = [name for name in names if name in COLUMNS and name != "fold"]
    if clash:
        raise PreflightError("BMD-RUN-032", f"the cohort's column {', '.join(clash)} is one that the manifest writes")
    return tuple(name for name in names if name != "fold")


def complete_row(row: Mapping[str, Any], *, fold: int, carried: Mapping[str, str]) -> dict[str, Any]:
    """A pair's row as the manifest has it: every column, `None` where there is nothing to say."""
    return {name: row.get(name) for name in COLUMNS} | {"fold": fold} | dict(carried)


def problems_of(rows: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str, str], ...]:
    """(what, code, reason) of everything that is left out, or whose new build failed, each pair once.

    What is the pair, and where its datasets differ, which of them: `p1__standing__L (A)`.
    """
    datasets: dict[str, list[str]] = {}
    left_out: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        datasets.setdefault(row["pair_id"], []).append(row["dataset"])
        if row["status"] != "ok" or row.get("code"):
            left_out.setdefault((row["pair_id"], row["code"], row["reason"]), []).append(row["dataset"])
    return tuple(
        (pair if found == datasets[pair] else f"{pair} ({', '.join(found)})", code, reason)
        for (pair, code, reason), found in left_out.items()
    )


def write_manifest(out: Path, rows: Sequence[Mapping[str, Any]], carried: Sequence[str]) -> None:
    """Write manifest.csv and manifest.parquet, the same table twice.

    Args:
        out: The dataset's folder.
        rows: From `complete_row`, in the order they are to have.
        carried: Names of the carried columns.
    """
    write_csv(out / QUARANTINE_CSV, _only(rows, QUARANTINE_COLUMNS), QUARANTINE_COLUMNS)
    _write_parquet(out / MANIFEST_PARQUET, rows, carried)
    write_csv(out / MANIFEST_CSV, rows, (*COLUMNS, *carried))


def _only(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in columns} for row in rows if row["status"] != "ok"]


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], carried: Sequence[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = {name: pyarrow.float64() for name in NUMBERS} | {"fold": pyarrow.int64()}
    columns = (*COLUMNS, *carried)
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in columns])
    table = pyarrow.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows], schema=schema)
    with whole_file(path) as temporary:
        parquet.write_table(table, temporary)
