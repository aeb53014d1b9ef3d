"""A whole cohort: pre-flight, lock, every case in a child process, publication, and what is said of them all."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import platform
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.case import Case
from bmdkit.core.disk import name_full_disk
from bmdkit.dataset import assemble, preflight
from bmdkit.dataset.anonymity import FileNames
from bmdkit.dataset.bone_labels import check_sources
from bmdkit.dataset.build import build_case, stage_failure
from bmdkit.dataset.commit import CASES, STAGING, hash_input, publish, read_meta, rescue
from bmdkit.dataset.context import BuildContext, CaseResult
from bmdkit.dataset.input_checksums import Seal
from bmdkit.dataset.manifest import carried_columns
from bmdkit.dataset.settings import BuildConfig
from bmdkit.dataset.splits import folds_of
from bmdkit.io.results import write_json
from bmdkit.jobs import lock
from bmdkit.jobs.machine import MachineNeeds, Package, check_machine
from bmdkit.jobs.processes import Outcome, RunnerConfig, run_jobs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseReport:
    """One case, as it is told while the build runs.

    Attributes:
        patient_id: The case.
        status: ok, quarantined or failed.
        reused: Verified and kept from an earlier run.
        problems: Of `manifest.problems_of`.
        seconds: Wall time.
        done, total: Cases of this run.
    """

    patient_id: str
    status: str
    reused: bool
    problems: tuple[tuple[str, str, str], ...]
    seconds: float
    done: int
    total: int


@dataclass(frozen=True)
class BuildSummary:
    """How a run ended.

    Attributes:
        reports: One per case that was done.
        pairs_ok, pairs_left_out: Rows of the manifest; 0 for a shard, which writes none.
        assembled: Whether manifest and checksums were written.
    """

    reports: tuple[CaseReport, ...]
    pairs_ok: int = 0
    pairs_left_out: int = 0
    assembled: bool = False

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        return [problem for report in self.reports for problem in report.problems]

    @property
    def exit_code(self) -> int:
        """0, or 3 when a case failed or something of it is quarantined."""
        return 0 if all(report.status == "ok" for report in self.reports) else 3


@dataclass(frozen=True)
class RunOptions:
    """What to do and how, none of which changes the result of a case.

    Attributes:
        runner: Processes and time.
        only: Patients; empty: all.
        shard: (I, N), 1-based: build every N-th case and leave manifest and checksums to a run over the whole.
        overwrite: Build every case anew, and remove cases that the cohort does not have.
        fail_fast: Stop at the first case that fails or is quarantined.
        work_dir: Where cases are staged; beside the output if None.
        anonymous: File names of the cohort must not be shown (with pseudonyms).
        device: auto, cpu or cuda[:N].
        dask: Address of a Dask scheduler whose workers build the cases; None: processes of this machine.
    """

    runner: RunnerConfig = field(default_factory=RunnerConfig)
    only: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    fail_fast: bool = False
    work_dir: Path | None = None
    anonymous: bool = False
    device: str = "cpu"
    dask: str | None = None


def build_cases(
    cases: Iterable[Case],
    out: Path,
    config: BuildConfig | None = None,
    options: RunOptions | None = None,
    *,
    seal: Seal | None = None,
    on_case: Callable[[CaseReport], None] | None = None,
    build_one: Callable[[Case, BuildContext], CaseResult] = build_case,
) -> BuildSummary:
    """Build, or go on building, the datasets of a cohort.

    Cases that are there are verified and kept when their inputs and settings are the same. A case that fails never
    stops the others. The bytes of the output do not depend on the number of processes nor on interruptions.

    Args:
        cases: Of `io.cohort.read_cohort`.
        out: The dataset's folder.
        config: Everything that can change a result.
        options: How to run.
        seal: Of `seal.read_seal`: an input that is not as it says is quarantined.
        on_case: Called in this process after each case.
        build_one: What is done with one case, in a child process; it must be importable there.

    Raises:
        PreflightError: Nothing was started.
        LockedError: Another run holds the output.
        DiskFullError: The disk is full; the run can be resumed.
    """
    config, options, out = config or BuildConfig(), options or RunOptions(), Path(out).absolute()
    cases = sorted(cases, key=lambda case: case.patient_id)
    folds = folds_of(cases, seed=config.seed, folds=config.folds)
    carried = carried_columns(cases)
    chosen = preflight.select(cases, options.only, options.shard)
    check_sources(chosen, config)
    found = check_machine(_needs(out, options))
    device = found if options.dask is None else options.device
    with name_full_disk(out):
        preflight.prepare_output(out)
        with lock.hold(out, shard=options.shard), _staging(out, options, chosen) as staging:
            _remove_strangers(out, cases, options)
            preflight.check_disk(out, chosen)
            context = BuildContext(out, staging, config, options.anonymous, device, options.overwrite, seal)
            reports = _run(chosen, cases, context, options, on_case, build_one)
            if options.shard is not None:
                return BuildSummary(tuple(reports))
            rows = assemble.assemble(out, cases, config, folds=folds, carried=carried, anonymous=options.anonymous)
    good = sum(row["status"] == "ok" for row in rows)
    return BuildSummary(tuple(reports), good, len(rows) - good, True)


def plan(cases: Iterable[Case], out: Path, options: RunOptions) -> list[tuple[str, str]]:
    """What a run would do with every case, without doing it: (patient, "build", "verify" or "build again").

    Raises:
        PreflightError: As `build_cases`.
    """
    cases = sorted(cases, key=lambda case: case.patient_id)
    preflight.check_columns(cases)
    check_machine(_needs(Path(out), options))
    preflight.check_ours(Path(out))
    preflight.check_strangers(Path(out), cases, allowed=options.overwrite)
    planned = []
    for case in preflight.select(cases, options.only, options.shard):
        meta = read_meta(Path(out), case.patient_id)
        again = options.overwrite or (meta or {}).get("status") == "failed"
        planned.append((case.patient_id, "build" if meta is None else "build again" if again else "verify"))
    return planned


def _needs(out: Path, options: RunOptions) -> MachineNeeds:
    """What a run needs of this machine; on a cluster the workers' devices are not this machine's."""
    if options.dask is None:
        return MachineNeeds(options.device, renders=True, n_jobs=options.runner.n_jobs, out=out)
    dask = Package("distributed", "BMD-RUN-038", "Dask is not installed: `pip install bmdkit[dask]`.")
    return MachineNeeds(packages=(dask,), out=out)


def _remove_strangers(out: Path, cases: list[Case], options: RunOptions) -> None:
    extra = preflight.check_strangers(out, cases, allowed=options.overwrite)
    for name in extra if options.shard is None else ():
        logger.warning("removing case %s: the cohort does not have it", name)
        assemble.withdraw(out)
        shutil.rmtree(out / CASES / name)


@contextlib.contextmanager
def _staging(out: Path, options: RunOptions, chosen: list[Case]) -> Iterator[Path]:
    """A private folder of this run; what dead runs have left is published where it is whole, and removed, first."""
    mark = "all" if options.shard is None else "-of-".join(map(str, options.shard))
    root = out / STAGING if options.work_dir is None else options.work_dir
    root.mkdir(parents=True, exist_ok=True)
    for stale in (out / STAGING).glob("*" if options.shard is None else f"{mark}.*"):
        names = () if options.overwrite else [case.patient_id for case in chosen]
        for name in rescue(stale, out, names, before=lambda: assemble.withdraw(out)):
            logger.info("%s was whole when an earlier run ended: published", name)
        shutil.rmtree(stale, ignore_errors=True)
    for stale in out.glob(".part-*"):
        stale.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{mark}.", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (out / STAGING).rmdir()


def _run(
    chosen: list[Case],
    cases: list[Case],
    context: BuildContext,
    options: RunOptions,
    on_case: Callable[[CaseReport], None] | None,
    build_one: Callable[[Case, BuildContext], CaseResult],
) -> list[CaseReport]:
    by_name = {case.patient_id: case for case in chosen}
    journal = _Journal(context, cases, options)
    reports: list[CaseReport] = []
    changed = False
    jobs = ((name, (case, context.about(case))) for name, case in by_name.items())
    if options.dask is None:
        started = run_jobs(build_one, jobs, options.runner)
    else:
        from bmdkit.jobs.dask_cluster import run_on_dask

        apart = functools.partial(staged_apart, build_one)
        started = run_on_dask(apart, jobs, options.runner, address=options.dask, alive=context.staging)
    with contextlib.closing(started) as outcomes:
        for outcome in outcomes:
            result = outcome.value
            if result is None:
                files = FileNames(by_name[outcome.name], hidden=context.anonymous)
                outcome = replace(
                    outcome, reason=files.hide(outcome.reason or ""), detail=files.hide(outcome.detail or "")
                )
                journal.crash(outcome, context)
                result = stage_failure(by_name[outcome.name], context, outcome.code, outcome.reason)
            if result.staged is not None:
                if not changed:
                    assemble.withdraw(context.out)
                    changed = True
                publish(result.staged, context.out, result.patient_id)
            report = CaseReport(
                result.patient_id,
                result.status,
                result.reused,
                result.problems,
                outcome.seconds,
                len(reports) + 1,
                len(chosen),
            )
            reports.append(report)
            journal.add(report, result)
            if on_case:
                on_case(report)
            if options.fail_fast and report.status != "ok":
                break
    return sorted(reports, key=lambda report: report.patient_id)


def staged_apart(
    build_one: Callable[[Case, BuildContext], CaseResult], case: Case, context: BuildContext
) -> CaseResult:
    """Build a case in a staging folder of this attempt: a machine that was given up may still write to its own."""
    return build_one(case, replace(context, staging=context.staging / uuid.uuid4().hex))


class _Journal:
    """logs/: what this run is, what became of every case and how long it took, and a file per crash."""

    def __init__(self, context: BuildContext, cases: list[Case], options: RunOptions) -> None:
        self.cases = {case.patient_id: case for case in cases}
        self.folder = context.out / "logs"
        self.folder.mkdir(exist_ok=True)
        self.runner = options.runner
        write_json(
            context.out / preflight.RUN_FILE,
            {"pid": os.getpid(), "started": _now(), "n_jobs": options.runner.n_jobs, "patients": list(self.cases)},
        )

    def add(self, report: CaseReport, result: CaseResult) -> None:
        entry: dict[str, Any] = {
            "time": _now(),
            "level": "INFO" if report.status == "ok" else "WARNING" if report.status == "quarantined" else "ERROR",
            "case": report.patient_id,
            "status": report.status,
            "reused": report.reused,
            "codes": sorted({code for _, code, _ in report.problems}),
            "seconds": round(report.seconds, 3),
            "stages": {stage: round(value, 3) for stage, value in result.seconds.items()},
            "problems": [{"pair": what, "code": code, "reason": reason} for what, code, reason in report.problems],
            "notes": list(result.notes),
        }
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if not report.reused:
            with (self.folder / "timings.csv").open("a", encoding="utf-8") as file:
                if file.tell() == 0:
                    file.write("patient_id,stage,seconds\n")
                file.writelines(f"{report.patient_id},{stage},{value:.3f}\n" for stage, value in result.seconds.items())

    def crash(self, outcome: Outcome, context: BuildContext) -> None:
        """Enough to reproduce a failure from the same cohort, and nothing that identifies a person.

        Inputs are told by their role, size and hash; the traceback has places and kinds of errors but no messages.
        """
        case = self.cases[outcome.name]
        write_json(
            self.folder / f"crash_{outcome.name}.json",
            {
                "case": outcome.name,
                "code": outcome.code,
                "reason": outcome.reason,
                "traceback": outcome.detail,
                "bmdkit": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "libraries": assemble.library_versions(),
                "configuration": to_dict(context.config),
                "device": context.device,
                "timeout_s": self.runner.timeout_s,
                "memory_gb": self.runner.memory_gb,
                "inputs": _inputs(case),
                "sides": list(case.sides),
                "reproduce": f"bmdkit build-dataset COHORT --out EMPTY --only {outcome.name} --device {context.device} "
                "with `configuration` as --recipe",
            },
        )


def _inputs(case: Case) -> dict[str, dict[str, Any]]:
    """Role -> size and SHA-256 of each input, null where it cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    for role, path in case.inputs.items():
        try:
            found[role] = {"bytes": preflight.bytes_of(path), "sha256": hash_input(path)}
        except OSError:
            found[role] = {"bytes": None, "sha256": None}
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
