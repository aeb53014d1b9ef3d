"""What must be right before the first case is started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bmdkit.core.case import Case
from bmdkit.dataset.bone_labels import check_sources
from bmdkit.dataset.build_run import RunOptions
from bmdkit.dataset.layout import CASES, DESCRIPTION, RUN_FILE, STAGING, case_folder, list_patients
from bmdkit.dataset.manifest import list_carried_columns
from bmdkit.dataset.settings import BuildConfig
from bmdkit.dataset.splits import choose_folds
from bmdkit.errors import PreflightError
from bmdkit.jobs.lock import LOCK_FILE
from bmdkit.jobs.machine import PROBE_PREFIX, MachineNeeds, Package, check_machine, check_room, probe_folder

_PAIR_BYTES = 2_500_000  # images, overlay and region of one row
_CASES_MEASURED = 20
_OURS = (RUN_FILE, DESCRIPTION, CASES)


@dataclass(frozen=True)
class CheckedRun:
    """A run of which everything that it needs has been found to be there.

    Attributes:
        cases: All cases of the cohort, sorted.
        chosen: Cases of this run.
        folds: Fold of every patient.
        carried: Names of the cohort's further columns.
        device: Device of the cases: cpu or cuda[:N]; on a cluster the name that was asked for.
    """

    cases: tuple[Case, ...]
    chosen: tuple[Case, ...]
    folds: Mapping[str, int]
    carried: tuple[str, ...]
    device: str


def check_run(cases: Iterable[Case], out: Path, config: BuildConfig, options: RunOptions) -> CheckedRun:
    """Check every condition of a build before it starts, and before a dry run; nothing is created or changed.

    Args:
        cases: All of the cohort.
        out: Folder of the dataset.
        config: Everything that can change a result.
        options: How the build is run.

    Raises:
        PreflightError: The cohort, the output, the model or the machine is not as it has to be.
    """
    cases = tuple(sorted(cases, key=lambda case: case.patient_id))
    folds = choose_folds(cases, seed=config.seed, folds=config.folds)
    carried = list_carried_columns(cases)
    chosen = tuple(select(cases, options.only, options.shard))
    check_output_kind(out)
    check_foreign_cases(out, cases, allowed=options.overwrite)
    device = check_machine(_list_needs(out, options))
    check_disk(out, chosen)
    check_sources(chosen, config, device if options.dask is None else None)
    return CheckedRun(cases, chosen, folds, carried, device if options.dask is None else options.device)


def _list_needs(out: Path, options: RunOptions) -> MachineNeeds:
    """What a run needs of this machine; on a cluster the workers' devices are not this machine's."""
    if options.dask is None:
        return MachineNeeds(options.device, renders=True, n_jobs=options.runner.n_jobs, out=out)
    dask = Package("distributed", "BMD-RUN-038", "Dask is not installed: `pip install bmdkit[dask]`.")
    return MachineNeeds(packages=(dask,), out=out)


def prepare_output(out: Path) -> None:
    """Make the output folder, and make sure that it can be written to.

    Raises:
        PreflightError: It cannot (BMD-RUN-030).
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PreflightError("BMD-RUN-030", f"{error.strerror or error}.", file=out) from error
    probe_folder(out)


def check_output_kind(out: Path) -> None:
    """Make sure that the output folder, if it is there, is empty or a dataset; touches nothing.

    Raises:
        PreflightError: It holds something else (BMD-RUN-037).
    """
    if not out.is_dir():
        return
    ignored = (LOCK_FILE, STAGING, PROBE_PREFIX)
    foreign = [path.name for path in out.iterdir() if not path.name.startswith(ignored)]
    if foreign and not any((out / name).exists() for name in _OURS):
        raise PreflightError("BMD-RUN-037", f"it holds {foreign[0]} and is no dataset of bmdkit.", file=out)


def check_disk(out: Path, cases: Sequence[Case]) -> int:
    """Estimate the bytes that cases will take, and make sure that they are free.

    Raises:
        PreflightError: They are not (BMD-RUN-031).
    """
    todo = [case for case in cases if not case_folder(out, case.patient_id).exists()]
    measured = todo[:: max(len(todo) // _CASES_MEASURED, 1)][:_CASES_MEASURED]
    if not measured:
        return 0
    needed = int(sum(map(_bytes_of_case, measured)) / len(measured) * len(todo))
    check_room(out, needed)
    return needed


def select(cases: Sequence[Case], only: Iterable[str], shard: tuple[int, int] | None) -> list[Case]:
    """The cases of this run: those named, and of those every N-th.

    Args:
        cases: Cases of the cohort, sorted.
        only: Identifiers; empty: all.
        shard: (I, N), 1-based.

    Raises:
        PreflightError: A name is unknown (BMD-RUN-036).
    """
    wanted = set(only)
    unknown = sorted(wanted - {case.patient_id for case in cases})
    if unknown:
        raise PreflightError("BMD-RUN-036", f"no patient {', '.join(unknown)}.")
    chosen = [case for case in cases if not wanted or case.patient_id in wanted]
    if shard is None:
        return chosen
    index, count = shard
    if not 1 <= index <= count:
        raise ValueError(f"shard: expected 1 <= I <= N, got {index}/{count}")
    return chosen[index - 1 :: count]


def check_foreign_cases(out: Path, cases: Iterable[Case], *, allowed: bool) -> list[str]:
    """Cases that the output holds and the cohort does not.

    Raises:
        PreflightError: There are some, and they are not allowed (BMD-RUN-034).
    """
    known = {case.patient_id for case in cases}
    extra = [name for name in list_patients(out) if name not in known]
    if extra and not allowed:
        raise PreflightError("BMD-RUN-034", f"{len(extra)} of them, such as {extra[0]}.")
    return extra


def _bytes_of_case(case: Case) -> int:
    sizes = measure_bytes(case.ct) + 2 * (measure_bytes(case.labels) if case.labels else 2_000_000)
    return sizes + 2 * _PAIR_BYTES * len(case.rows)


def measure_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder; 0 where it cannot be read."""
    if path.is_dir():
        with os.scandir(path) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
    try:
        return path.stat().st_size
    except OSError:
        return 0
