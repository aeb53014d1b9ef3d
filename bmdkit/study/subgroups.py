"""Errors of each method in subgroups: by pose, side, and the columns that a cohort carries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from bmdkit.dataset.manifest import COLUMNS as MANIFEST_COLUMNS
from bmdkit.dataset.manifest import read_manifest
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, bootstrap_interval
from bmdkit.evaluation.conformal import mean_by_patient, measure_held_share
from bmdkit.io.results import finite, write_csv
from bmdkit.study.finished_runs import Method
from bmdkit.study.task_values import Split, TaskValues, iterate_task_values

MOST_GROUPS = 8
"""Different words of a column up to which each is a group; numbers of more are cut into tertiles."""


@dataclass(frozen=True)
class SubgroupRow:
    """One row of subgroups.csv.

    Attributes:
        method, seed, task: What predicted.
        column, group: Column of the manifest, and its value or the range of values.
        images, patients: Number of images and of patients.
        bias, bias_low, bias_high: Mean of predicted less measured with its 95 % interval, patients resampled; the
            interval is None below ten patients.
        mae, mae_low, mae_high: The same of the absolute error.
        coverage, coverage_low, coverage_high: How often the method's 90 % prediction intervals hold, made of all poses
            and groups of other patients, mean over patients; None below twenty patients in all, or ten in the group.
    """

    method: str
    seed: int
    task: str
    column: str
    group: str
    images: int
    patients: int
    bias: float
    bias_low: float | None
    bias_high: float | None
    mae: float
    mae_low: float | None
    mae_high: float | None
    coverage: float | None = None
    coverage_low: float | None = None
    coverage_high: float | None = None


def write_subgroups(methods: Sequence[Method], data: Path, split: Split, path: Path) -> None:
    """Write the errors of every method in every subgroup.

    Args:
        methods: Methods of one study.
        data: Their dataset; the columns that its manifest carries from the cohort make the groups.
        split: Patients whose errors are taken.
        path: Table to write.
    """
    carried = _read_carried(data)
    rows = [row for method, values in iterate_task_values(methods, split) for row in _rows_of(method, values, carried)]
    write_csv(path, map(asdict, rows), [field.name for field in fields(SubgroupRow)])


def _read_carried(data: Path) -> dict[str, dict[str, str]]:
    """Cells of the carried columns, by column and pair."""
    table = [row for row in read_manifest(data) if row.get("dataset") == "B"]
    names = [name for name in (table[0] if table else ()) if name not in MANIFEST_COLUMNS]
    return {name: {row["pair_id"]: row[name].strip() for row in table} for name in names}


def _rows_of(method: Method, values: TaskValues, carried: Mapping[str, Mapping[str, str]]) -> list[SubgroupRow]:
    if not len(values):
        return []
    columns = {"pose": values.poses, "side": [row.side for row in values.rows]}
    columns |= {name: [cells.get(row.pair_id, "") for row in values.rows] for name, cells in carried.items()}
    held = measure_held_share(values.errors, values.patients, rng=np.random.default_rng(0))
    rows = []
    for column, cells in columns.items():
        groups = name_groups(cells)
        rows += [
            _measure(method, values, held, column, group, np.array([one == group for one in groups]))
            for group in sorted({group for group in groups if group})
        ]
    return rows


def name_groups(cells: Sequence[str]) -> list[str]:
    """Name the group of each cell: its words, or the tertile of its number; "" where it is empty.

    Columns of many different words, such as names, make no groups.
    """
    known = [cell for cell in cells if cell]
    if len(set(known)) <= MOST_GROUPS:
        return list(cells)
    numbers = [_number(cell) for cell in cells]
    if any(math.isnan(number) for number, cell in zip(numbers, cells, strict=True) if cell):
        return [""] * len(cells)
    low, high = np.nanquantile(numbers, (1 / 3, 2 / 3))
    names = (f"up to {low:.4g}", f"{low:.4g} to {high:.4g}", f"above {high:.4g}")
    return ["" if math.isnan(n) else names[int(n > low) + int(n > high)] for n in numbers]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _measure(
    method: Method, values: TaskValues, held: np.ndarray | None, column: str, group: str, inside: np.ndarray
) -> SubgroupRow:
    errors = values.errors[inside]
    patients = [name for name, within in zip(values.patients, inside, strict=True) if within]
    enough = len(set(patients)) >= FEWEST_PATIENTS
    rng = np.random.default_rng(0)

    def interval(data: np.ndarray) -> tuple[float | None, float | None]:
        low, high = bootstrap_interval(np.mean, data, patients=patients, rng=rng) if enough else (math.nan, math.nan)
        return finite(low), finite(high)

    about = (method.name, method.first_seed, values.task, column, group, len(errors), len(set(patients)))
    absolute = np.abs(errors)
    bias, mae = (float(errors.mean()), *interval(errors)), (float(absolute.mean()), *interval(absolute))
    if held is None or not enough:
        return SubgroupRow(*about, *bias, *mae)
    known = np.isfinite(held) & inside
    share, names = held[known], np.asarray(values.patients)[known]
    low, high = bootstrap_interval(mean_by_patient, share, names, patients=names.tolist(), rng=rng)
    return SubgroupRow(*about, *bias, *mae, finite(mean_by_patient(share, names)), finite(low), finite(high))
