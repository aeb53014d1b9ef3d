"""The paired datasets A and B of a cohort, built by one call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from bmdkit.config import make_settings
from bmdkit.dataset.cohort_build import BuildSummary, CaseReport, RunOptions, build_cases
from bmdkit.dataset.input_checksums import read_input_checksums
from bmdkit.dataset.settings import BuildConfig
from bmdkit.io.cohort import read_cohort
from bmdkit.jobs.processes import RunnerConfig


def build_dataset(
    cohort: str | Path,
    out: str | Path,
    *,
    recipe: str | Path | Mapping[str, Any] | None = None,
    n_jobs: int = 1,
    only: Collection[str] = (),
    overwrite: bool = False,
    device: str = "auto",
    on_case: Callable[[CaseReport], None] | None = None,
) -> BuildSummary:
    """Build the paired datasets of a cohort, or go on building them; `bmdkit build-dataset` does the same.

    A case that fails never stops the others. What an earlier call finished is verified and kept. A script that calls
    this with several processes does so below `if __name__ == "__main__":`.

    Args:
        cohort: Folder that holds cohort.csv.
        out: Folder of the dataset.
        recipe: Settings: a YAML recipe, or the mapping that such a file holds.
        n_jobs: Number of processes.
        only: Patients to build; all if empty.
        overwrite: Whether every case is built anew, and cases that the cohort does not have are removed.
        device: Device that works on the cases: auto, cpu or cuda[:N]; "cpu" gives the same bytes on every machine.
        on_case: Function that is called in this process after each case.

    Returns:
        One report per case, and the number of pairs.

    Raises:
        ConfigError: A setting is unknown or mistyped.
        PreflightError: The cohort, the output or the machine is not as it has to be; nothing was started.
        LockedError: Another run holds the output.
        DiskFullError: The disk is full; the run can be resumed.

    Example:
        >>> summary = build_dataset("cohort", "dataset", recipe={"dataset": "B"}, n_jobs=8)  # doctest: +SKIP
        >>> summary.pairs_ok, summary.problems  # doctest: +SKIP
    """
    folder = Path(cohort)
    options = RunOptions(RunnerConfig(n_jobs), only=tuple(only), overwrite=overwrite, device=device)
    settings = make_settings(BuildConfig, recipe)
    checksums = read_input_checksums(folder)
    cases = read_cohort(folder).cases
    return build_cases(cases, Path(out), settings, options, checksums=checksums, on_case=on_case)
