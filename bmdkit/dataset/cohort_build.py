"""A whole cohort: pre-flight, lock, every case in a child process, publication, and what is said of them all."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bmdkit.core.case import Case
from bmdkit.core.disk import name_full_disk
from bmdkit.dataset import assemble, preflight
from bmdkit.dataset.anonymity import FileNames
from bmdkit.dataset.build import build_case, stage_failure
from bmdkit.dataset.build_run import BuildSummary, CaseReport, RunOptions
from bmdkit.dataset.case_meta import is_good, read_meta, write_meta
from bmdkit.dataset.commit import publish, rescue
from bmdkit.dataset.context import BuildContext, CaseResult
from bmdkit.dataset.input_checksums import InputChecksums
from bmdkit.dataset.journal import Journal
from bmdkit.dataset.layout import STAGING, case_folder
from bmdkit.dataset.manifest import LeftOut, list_problems
from bmdkit.dataset.settings import BuildConfig
from bmdkit.dataset.stage_clock import note_file, read_stages
from bmdkit.jobs import lock
from bmdkit.jobs.processes import Outcome, call_seldom, run_jobs

logger = logging.getLogger(__name__)

_TELL_EVERY_S = 1.0


def build_cases(
    cases: Iterable[Case],
    out: Path,
    config: BuildConfig | None = None,
    options: RunOptions | None = None,
    *,
    checksums: InputChecksums | None = None,
    on_case: Callable[[CaseReport], None] | None = None,
    on_stage: Callable[[str, int], None] | None = None,
    on_work: Callable[[Mapping[str, str]], None] | None = None,
    build_one: Callable[[Case, BuildContext], CaseResult] = build_case,
) -> BuildSummary:
    """Build, or go on building, the datasets of a cohort.

    Cases that are there are verified and kept when their inputs and settings are the same. A case that fails never
    stops the others. The bytes of the output do not depend on the number of processes nor on interruptions.

    Args:
        cases: Cases of `io.cohort.read_cohort`.
        out: Folder of the dataset.
        config: Everything that can change a result.
        options: How the build is run.
        checksums: Checksums of a sealed cohort: an input that is not as they say is quarantined.
        on_case: Function that is called in this process after each case.
        on_stage: Function that is called in this process when a stage begins, with its name ("checking", "building",
            "writing the manifest") and the number of cases.
        on_work: Function that is called in this process about once a second, with the stage of every case that is being
            built.
        build_one: Function that builds one case in a child process; it must be importable there.

    Returns:
        One report per case, and the number of pairs.

    Raises:
        PreflightError: Nothing was started.
        LockedError: Another run holds the output.
        DiskFullError: The disk is full; the run can be resumed.
    """
    config, options, out = config or BuildConfig(), options or RunOptions(), Path(out).absolute()
    cases, tell = tuple(cases), on_stage or _say_nothing
    tell("checking", len(cases))
    run = preflight.check_run(cases, out, config, options)
    with name_full_disk(out):
        preflight.prepare_output(out)
        with lock.hold(out, shard=options.shard), _make_staging(out, options, run.chosen) as staging:
            _remove_foreign_cases(out, run.cases, options)
            context = BuildContext(out, staging, config, options.anonymous, run.device, options.overwrite, checksums)
            tell("building", len(run.chosen))
            reports = _run_cases(run, context, options, on_case, on_work, build_one)
            if options.shard is not None:
                return BuildSummary(tuple(reports))
            tell("writing the manifest", len(run.cases))
            rows = assemble.assemble(
                out, run.cases, config, folds=run.folds, carried=run.carried, anonymous=options.anonymous
            )
    good = [row.pair for row in rows if row.pair.is_ok]
    rejected = sum(pair.verdict == "reject" for pair in good)
    return BuildSummary(tuple(reports), len(good), len(rows) - len(good), rejected, assembled=True)


def _say_nothing(stage: str, cases: int) -> None:
    """What is told of a stage where nobody listens."""


def plan_build(
    cases: Iterable[Case], out: Path, options: RunOptions, config: BuildConfig | None = None
) -> list[tuple[str, str]]:
    """Check all that a run needs, and list what it would do with every case, without doing it.

    Args:
        cases: All of the cohort.
        out: Folder of the dataset.
        options: How the build is run.
        config: Everything that can change a result.

    Returns:
        (patient, "build", "verify" or "build again") of every case of the run.

    Raises:
        PreflightError: As `build_cases`.
    """
    run = preflight.check_run(cases, Path(out), config or BuildConfig(), options)
    planned = []
    for case in run.chosen:
        meta = read_meta(Path(out), case.patient_id)
        again = options.overwrite or (meta is not None and meta.status == "failed")
        planned.append((case.patient_id, "build" if meta is None else "build again" if again else "verify"))
    return planned


def _remove_foreign_cases(out: Path, cases: Sequence[Case], options: RunOptions) -> None:
    extra = preflight.check_foreign_cases(out, cases, allowed=options.overwrite)
    for name in extra if options.shard is None else ():
        logger.warning("removing case %s: the cohort does not have it", name)
        assemble.withdraw(out)
        shutil.rmtree(case_folder(out, name))


@contextlib.contextmanager
def _make_staging(out: Path, options: RunOptions, chosen: Sequence[Case]) -> Iterator[Path]:
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


def _run_cases(
    run: preflight.CheckedRun,
    context: BuildContext,
    options: RunOptions,
    on_case: Callable[[CaseReport], None] | None,
    on_work: Callable[[Mapping[str, str]], None] | None,
    build_one: Callable[[Case, BuildContext], CaseResult],
) -> list[CaseReport]:
    by_name = {case.patient_id: case for case in run.chosen}
    journal = Journal(context, run.cases, options)
    publisher = _Publisher(context)
    reports: list[CaseReport] = []

    def tell_work() -> None:
        if on_work is not None:
            done = {report.patient_id for report in reports}
            on_work({name: stage for name, stage in read_stages(context.staging).items() if name not in done})

    jobs = ((name, (case, context.select_case(case))) for name, case in by_name.items())
    on_wait = call_seldom(tell_work, _TELL_EVERY_S)
    with contextlib.closing(_start(jobs, context, options, build_one, on_wait)) as outcomes:
        for outcome in outcomes:
            case = by_name[outcome.name]
            note_file(context.staging, outcome.name).unlink(missing_ok=True)
            if outcome.value is None:
                outcome = _hide_names(outcome, case, context)
                journal.add_crash(outcome, context)
                result = publisher.fail(case, outcome)
            else:
                result = outcome.value
                publisher.publish(result)
            report = CaseReport(
                result.patient_id,
                result.status,
                result.reused,
                result.problems,
                outcome.seconds,
                len(reports) + 1,
                len(run.chosen),
                result.kept,
            )
            reports.append(report)
            journal.add(report, result)
            if on_case:
                on_case(report)
            if options.fail_fast and report.status != "ok":
                break
    return sorted(reports, key=lambda report: report.patient_id)


def _start(
    jobs: Iterable[tuple[str, tuple]],
    context: BuildContext,
    options: RunOptions,
    build_one: Callable[[Case, BuildContext], CaseResult],
    on_wait: Callable[[], None],
) -> Generator[Outcome, None, None]:
    """Start the jobs in processes of this machine, or on a cluster."""
    if options.dask is None:
        return run_jobs(build_one, jobs, options.runner, on_wait=on_wait)
    from bmdkit.jobs.dask_cluster import run_on_dask

    apart = functools.partial(build_apart, build_one)
    return run_on_dask(apart, jobs, options.runner, address=options.dask, alive=context.staging, on_wait=on_wait)


def _hide_names(outcome: Outcome, case: Case, context: BuildContext) -> Outcome:
    """Take the names of the cohort's files out of what a job says, if they must not be shown."""
    files = FileNames(case, hidden=context.anonymous)
    return replace(outcome, reason=files.hide(outcome.reason or ""), detail=files.hide(outcome.detail or ""))


class _Publisher:
    """Puts results in the dataset; before the first of them, manifest and checksums are taken away."""

    def __init__(self, context: BuildContext) -> None:
        self.context = context
        self._withdrawn = False

    def publish(self, result: CaseResult) -> None:
        """Publish what was staged; what was kept is whole again and no longer bears an earlier failure."""
        out = self.context.out
        if result.staged is not None:
            self._withdraw()
            publish(result.staged, out, result.patient_id)
            return
        meta = read_meta(out, result.patient_id)
        if meta is not None and meta.has_failed_since:
            self._withdraw()
            write_meta(out, meta.clear_failure())

    def fail(self, case: Case, outcome: Outcome) -> CaseResult:
        """Publish that a case failed; a good result that is there stays, and says why the new build failed."""
        why = LeftOut(outcome.code or "BMD-RUN-004", outcome.reason or "")
        out, name = self.context.out, case.patient_id
        meta = read_meta(out, name)
        if meta is not None and is_good(out, meta):
            self._withdraw()
            noted = meta.note_failure(why)
            write_meta(out, noted)
            return CaseResult(name, "failed", list_problems(noted.pairs), kept=True)
        result = stage_failure(case, self.context, why)
        self.publish(result)
        return result

    def _withdraw(self) -> None:
        if not self._withdrawn:
            assemble.withdraw(self.context.out)
            self._withdrawn = True


def build_apart(build_one: Callable[[Case, BuildContext], CaseResult], case: Case, context: BuildContext) -> CaseResult:
    """Build a case in a staging folder of this attempt: a machine that was given up may still write to its own."""
    return build_one(case, replace(context, staging=context.staging / uuid.uuid4().hex))
