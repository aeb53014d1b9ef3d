"""A cohort: a table that was read and found sound, one Case per patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bmdkit.core.case import Case, CohortRow
from bmdkit.io.cohort_table import TABLE, CohortTable
from bmdkit.io.pseudonyms import make_pseudonym, write_key_map
from bmdkit.io.table_check import Problem

__all__ = [
    "TABLE",
    "Cohort",
    "Problem",
    "check_cohort",
    "make_pseudonym",
    "read_cohort",
    "write_keys",
]


@dataclass(frozen=True)
class Cohort:
    """All cases of a folder.

    Attributes:
        root: The cohort's folder.
        cases: One case per patient, in the order of their identifiers.
        carried: Names of the columns that are carried into the manifest.
        keys: Identifier used -> identifier in the table; only filled when pseudonymised, never to be written inside
            a dataset.
        warnings: What the user should know about the table.
    """

    root: Path
    cases: tuple[Case, ...]
    carried: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()


def read_cohort(folder: Path, *, pseudonymise_key: bytes | None = None) -> Cohort:
    """Read and check the whole table; opens none of the images.

    Args:
        folder: Folder that holds cohort.csv; its paths are relative to it.
        pseudonymise_key: Key of the pseudonyms. If given, every patient becomes `sub-<12 hex>`, a hash keyed with it,
            and any identifier is accepted.

    Returns:
        The cohort.

    Raises:
        PreflightError: With every problem of every row (a `TableError`, whose `problems` lists them).
    """
    cohort = CohortTable(Path(folder), pseudonymise_key)
    cohort.check()
    cohort.table.require_sound()
    return Cohort(Path(folder), _group(cohort.rows), cohort.carried, cohort.originals, tuple(cohort.table.problems))


def check_cohort(folder: Path, *, pseudonymise_key: bytes | None = None) -> list[Problem]:
    """Find every problem of every row, in the order of the lines; empty if the table is sound."""
    cohort = CohortTable(Path(folder), pseudonymise_key)
    cohort.check()
    return cohort.table.problems


def write_keys(path: Path, cohort: Cohort) -> None:
    """Write which pseudonym stands for whom; readable by its owner only. To be kept outside the dataset."""
    write_key_map(path, cohort.keys)


def _group(rows: Iterable[CohortRow]) -> tuple[Case, ...]:
    """One case per patient; in an order of its own, so that a shuffled table is the same cohort."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.patient_id].append(row)
    return tuple(
        Case(name, tuple(sorted(groups[name], key=lambda row: (str(row.xray), row.side)))) for name in sorted(groups)
    )
