"""What must be right before the first case is started."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from bmdkit.core.case import Case
from bmdkit.dataset.commit import CASES, STAGING
from bmdkit.dataset.manifest import carried_columns
from bmdkit.dataset.splits import folds_of
from bmdkit.errors import PreflightError
from bmdkit.jobs.lock import LOCK_FILE

RUN_FILE = "logs/run.json"
_PAIR_BYTES = 2_500_000  # images, overlay and region of one row
_CASES_MEASURED = 20
_OURS = (RUN_FILE, "dataset.json", CASES)


def prepare_output(out: Path) -> None:
    """Make the output folder, and make sure that it is ours and can be written to.

    Raises:
        PreflightError: It cannot (BMD-RUN-030), or it holds something else (BMD-RUN-037).
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".part-", dir=out) as probe:
            probe.write(b"0")
    except OSError as error:
        raise PreflightError("BMD-RUN-030", f"{error.strerror or error}.", file=out) from error
    check_ours(out)


def check_ours(out: Path) -> None:
    """Make sure that the output folder, if it is there, is empty or a dataset; touches nothing.

    Raises:
        PreflightError: It holds something else (BMD-RUN-037).
    """
    if not out.is_dir():
        return
    ignored = (LOCK_FILE, STAGING, ".part-")
    foreign = [path.name for path in out.iterdir() if not path.name.startswith(ignored)]
    if foreign and not any((out / name).exists() for name in _OURS):
        raise PreflightError("BMD-RUN-037", f"it holds {foreign[0]} and is no dataset of bmdkit.", file=out)


def check_columns(cases: Sequence[Case]) -> None:
    """Make sure that the cohort's further columns can stand in the manifest.

    Raises:
        PreflightError: One bears the name of the manifest's (BMD-RUN-032), or the folds cannot be (BMD-RUN-033).
    """
    carried_columns(cases)
    folds_of(cases, seed=0)


def check_disk(out: Path, cases: Sequence[Case]) -> int:
    """Estimate the bytes that cases will take, and make sure that they are free.

    Raises:
        PreflightError: They are not (BMD-RUN-031).
    """
    todo = [case for case in cases if not (out / CASES / case.patient_id).exists()]
    measured = todo[:: max(len(todo) // _CASES_MEASURED, 1)][:_CASES_MEASURED]
    if not measured:
        return 0
    needed = int(sum(map(_bytes_of_case, measured)) / len(measured) * len(todo))
    free = shutil.disk_usage(out).free
    if needed > free:
        raise PreflightError("BMD-RUN-031", f"about {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free.")
    return needed


def select(cases: Sequence[Case], only: Iterable[str], shard: tuple[int, int] | None) -> list[Case]:
    """The cases of this run: those named, and of those every N-th.

    Args:
        cases: Of the cohort, sorted.
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


def check_strangers(out: Path, cases: Iterable[Case], *, allowed: bool) -> list[str]:
    """Cases that the output holds and the cohort does not.

    Raises:
        PreflightError: There are some, and they are not allowed (BMD-RUN-034).
    """
    known = {case.patient_id for case in cases}
    folder = out / CASES
    extra = sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.is_dir() else []
    if extra and not allowed:
        raise PreflightError("BMD-RUN-034", f"{len(extra)} of them, such as {extra[0]}.")
    return extra


def _bytes_of_case(case: Case) -> int:
    sizes = bytes_of(case.ct) + 2 * (bytes_of(case.labels) if case.labels else 2_000_000)
    return sizes + 2 * _PAIR_BYTES * len(case.rows)


def bytes_of(path: Path) -> int:
    if path.is_dir():
        with os.scandir(path) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
    try:
        return path.stat().st_size
    except OSError:
        return 0
