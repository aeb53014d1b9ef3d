"""How a build grows: with jobs on this machine, with the workers of a cluster, and what that says of a large cohort.

    bmdkit simulate COHORT --patients 4 --poses standing --poses supine --poses abduction --poses adduction
    python benchmarks/build_scaling.py COHORT [--work DIR] [--jobs 1 2 4] [--workers 64] [--json FILE]

Measured: builds with so many jobs, whose SHA256SUMS must be equal; and a cluster of one-threaded Dask workers in this
process, to which `jobs.dask_cluster` deals out the cases of a large cohort that only sleep. They sleep what a case of
it should take, cut to `--seconds` for the whole; a case's child is left out, as 64 of them have no place here and its
start is part of what a case takes. The ideal is the same order on workers that cost nothing. Extrapolated: a large
cohort on cores of this kind, each case on one of its own, from the core-seconds of one job, its radiographs' and its
CT's apart; at most, with what the command itself did beside the cases after them, as if all of it grew with the
patients (most of it is its start). Labels are given, and files are near: a segmentation, and copies to another machine,
are not in it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from build import FINISHED, command, sums
from figure_files import write_figures

from bmdkit.io.results import read_csv
from bmdkit.jobs import dask_cluster
from bmdkit.jobs.processes import Outcome, RunnerConfig

PATIENTS, RADIOGRAPHS = 305, 1204
"""The cohort of Gu et al. 2023, doi 10.1016/j.media.2023.102970."""
CORES = (2, 16, 64)
OF_EACH_RADIOGRAPH = ("read radiograph", "register", "pairs")
"""Stages whose time grows with the radiographs of a patient; the others are those of the CT."""
_LOOK_EVERY_S = 0.2
_OF_ONE_MACHINE = {
    "distributed.comm.timeouts.tcp": "600s",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "60s",
}
"""What each worker does for itself on a machine of its own, kept small where all share one process."""
_GIB = 2**30


@dataclass(frozen=True)
class Run:
    """What one build took.

    Attributes:
        wall_s: Wall time.
        cpu_s: Core-seconds of all processes.
        own_cpu_s: Those of the command's own process, beside the cases.
        largest_bytes: Peak of the largest process.
        together_bytes: Largest sum over all processes at one moment, pages that several share counted in parts.
    """

    wall_s: float
    cpu_s: float
    own_cpu_s: float
    largest_bytes: float
    together_bytes: float


def build(cohort: Path, out: Path, n_jobs: int) -> Run:
    """Build a cohort and watch what it takes."""
    start, together, own = time.monotonic(), 0, 0.0
    process = psutil.Popen(command(cohort, out, n_jobs))
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        try:
            times = process.cpu_times()
            own = max(own, times.user + times.system)
            together = max(together, sum(measure_memory(one) for one in (process, *process.children(recursive=True))))
        except psutil.Error:  # it has just ended
            continue
        time.sleep(_LOOK_EVERY_S)
    if os.waitstatus_to_exitcode(status) not in FINISHED:
        raise SystemExit(f"build-dataset ended with {os.waitstatus_to_exitcode(status)}")
    return Run(time.monotonic() - start, used.ru_utime + used.ru_stime, own, used.ru_maxrss * 1024, together)


def build_once(cohort: Path, out: Path, n_jobs: int) -> Run:
    """Build as `build`, or read what the build took where an earlier run of this benchmark made it."""
    kept = out.with_name(f"{out.name}_run.json")
    if kept.exists():
        return Run(**json.loads(kept.read_text(encoding="utf-8")))
    run = build(cohort, out, n_jobs)
    kept.write_text(json.dumps(asdict(run)), encoding="utf-8")
    return run


def measure_memory(process: psutil.Process) -> int:
    """Memory of a process, bytes; 0 of one that has ended."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def read_cases(out: Path) -> list[tuple[float, float]]:
    """Core-seconds of every case of a build: of the stages that each radiograph goes through, and of the others."""
    spent: dict[str, tuple[float, float]] = {}
    for row in read_csv(out / "logs" / "timings.csv"):
        each, once = spent.get(row["patient_id"], (0.0, 0.0))
        seconds, is_each = float(row["cpu_seconds"]), row["stage"] in OF_EACH_RADIOGRAPH
        spent[row["patient_id"]] = (each + seconds * is_each, once + seconds * (not is_each))
    return list(spent.values())


def find_makespan(seconds: Sequence[float], workers: int) -> float:
    """Time until all cases are done where every worker takes the next one as soon as it is free."""
    free = [0.0] * min(workers, len(seconds))
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def sleep_instead(function: Callable[..., Any], arguments: tuple, *_: object) -> Outcome:
    """Take a case's time on a worker, in the place of its child."""
    start = time.monotonic()
    value = function(*arguments)
    return Outcome("", value=value, seconds=time.monotonic() - start)


def measure_scheduling(seconds: Sequence[float], workers: int, case_s: float) -> Iterator[tuple[str, float]]:
    """Deal cases that sleep out to the workers of a cluster in this process; a case that does not takes `case_s`."""
    import dask
    from distributed import LocalCluster

    where = {"processes": False, "protocol": "tcp", "dashboard_address": None, "silence_logs": 50}
    jobs = [(f"case{number:03d}", (each,)) for number, each in enumerate(seconds)]
    with (
        dask.config.set(_OF_ONE_MACHINE),
        LocalCluster(n_workers=workers, threads_per_worker=1, **where) as cluster,
        tempfile.TemporaryDirectory() as alive,
        mock.patch.object(dask_cluster, "_on_worker", sleep_instead),
    ):
        cluster.wait_for_workers(workers)
        about = {"address": cluster.scheduler_address, "alive": Path(alive)}
        start, cpu_start = time.monotonic(), time.process_time()
        outcomes = list(dask_cluster.run_on_dask(time.sleep, jobs, RunnerConfig(), **about))
        wall, cpu = time.monotonic() - start, time.process_time() - cpu_start
    failed = [outcome for outcome in outcomes if outcome.code]
    if failed or len(outcomes) != len(jobs):
        raise SystemExit(f"{len(outcomes)} of {len(jobs)} cases ended, {len(failed)} failed: {failed[:1]}")
    ideal = find_makespan(seconds, workers)
    group = f"{workers} Dask workers that sleep"
    yield f"{group}: cases", len(jobs)
    yield f"{group}: ideal, s", ideal
    yield f"{group}: wall, s", wall
    yield f"{group}: scheduling adds, %", 100 * (wall / ideal - 1)
    yield f"{group}: core-ms of scheduler, workers and client, a case", 1000 * cpu / len(jobs)
    yield f"{group}: the same as a part of a case's core-seconds, %", 100 * cpu / len(jobs) / case_s


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--work", type=Path, help="Where to build; what an earlier run left is kept.")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="What the sleeping cases take at least, all.")
    parser.add_argument("--note", help="What has to be known of the machine's state.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="bmdkit-scaling-"))
    numbers: dict[str, float] = {}
    runs = {n_jobs: build_once(options.cohort, work / f"jobs{n_jobs}", n_jobs) for n_jobs in options.jobs}
    first = options.jobs[0]
    radiographs = len(list((work / f"jobs{first}").glob("cases/*/registration_*.json")))
    cases = read_cases(work / f"jobs{first}")
    for n_jobs, run in runs.items():
        group = f"measured, {n_jobs} job{'s' * (n_jobs > 1)}"
        numbers |= {
            f"{group}: wall, s": run.wall_s,
            f"{group}: core-seconds": run.cpu_s,
            f"{group}: core-seconds a radiograph": run.cpu_s / radiographs,
            f"{group}: largest process, GiB": run.largest_bytes / _GIB,
            f"{group}: all processes together, GiB": run.together_bytes / _GIB,
            f"{group}: same bytes as {first}": float(sums(work / f"jobs{first}") == sums(work / f"jobs{n_jobs}")),
        }
    own = runs[first].own_cpu_s
    each, once = (sum(part) for part in zip(*cases, strict=True))
    around = (runs[first].cpu_s - own - each - once) / len(cases)
    numbers["measured, the command itself: core-seconds"] = own
    numbers["measured, a case: radiographs"] = radiographs / len(cases)
    numbers["measured, a case: core-seconds of each radiograph"] = each / radiographs
    numbers["measured, a case: core-seconds of its CT"] = once / len(cases)
    numbers["measured, a case: core-seconds of its process beside them"] = around

    more = RADIOGRAPHS / PATIENTS / (radiographs / len(cases))
    large = [each * more + once + around for each, once in islice(cycle(cases), PATIENTS)]
    for cores in CORES:
        group = f"extrapolated, {RADIOGRAPHS} radiographs of {PATIENTS} patients on {cores} cores"
        span = find_makespan(large, cores)
        numbers[f"{group}: cases alone, minutes"] = span / 60
        numbers[f"{group}: at most, minutes"] = (span + own / len(cases) * PATIENTS) / 60

    shorter = options.seconds / find_makespan(large, options.workers)
    about = {"note": options.note} if options.note else {}
    sleeping = [each * shorter for each in large]
    for measure in (dict, lambda: measure_scheduling(sleeping, options.workers, sum(large) / len(large))):
        numbers |= measure()
        if options.json:  # what the builds took is kept, whatever becomes of the cluster
            write_figures(options.json, numbers, "cpu", **about)
    for name, value in numbers.items():
        print(f"{name:85s} {value:.4g}")


if __name__ == "__main__":
    main()
