"""What safety costs where nothing goes wrong, and what a cohort of a thousand patients takes.

    bmdkit simulate COHORT --patients 2
    python benchmarks/faults.py COHORT [--work DIR] [--cases 1000] [--figures FILE] [--json FILE]

Cost: COHORT is built in this process, and the time of everything that is done for safety alone (hashing, flushing to
the disk, publishing, reading and sealing the records of cases, and one child process, which a build without isolation
would not need) is summed, as CPU time and waiting for the disk, and held against the whole. Size: so many tiny cases
are built by the command; the memory of its parent process, the time until the first case is begun, and the time of
`bmdkit status` are measured. `--figures` adds what `make faults` counted.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from figure_files import write_figures

from bmdkit.core import disk
from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.dataset import case_meta, cohort_build, commit, integrity
from bmdkit.dataset.cohort_build import build_cases
from bmdkit.io import results
from bmdkit.io.cohort import read_cohort
from bmdkit.io.volumes import write_volume
from bmdkit.jobs import processes

FOR_SAFETY = (
    results.sha256_of,
    disk.flush_to_disk,
    commit.hash_input,
    commit.hash_outputs,
    commit.publish,
    case_meta.find_damage,
    case_meta.read_meta,
    case_meta.write_meta,
    integrity.write_sums,
)
SETTLED = 0.1
"""Of all cases, those over which the memory of the parent is taken at the beginning, and at the end."""
MIB = 2**20


class Watch:
    """CPU time, and waiting time of the disk, spent in some functions; one called by another counts once."""

    def __init__(self) -> None:
        """Begin to count."""
        self.cpu_s = self.disk_s = 0.0
        self._inside = False

    def over(self, function: Callable) -> Callable:
        """Count the time that a function takes."""

        @functools.wraps(function)
        def watched(*arguments, **options):
            if self._inside:
                return function(*arguments, **options)
            self._inside, start = True, time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self._inside = False
                self.cpu_s += time.process_time() - start

        return watched

    def fsync(self, handle: int, flush: Callable[[int], None] = os.fsync) -> None:
        """Flush a file, and count how long the disk took."""
        start, cpu = time.perf_counter(), time.process_time()
        flush(handle)
        self.disk_s += time.perf_counter() - start - (time.process_time() - cpu)


def install(watch: Watch) -> None:
    """Put the watched functions wherever the originals are known by name."""
    for original in FOR_SAFETY:
        watched = watch.over(original)
        for module in [m for name, m in sys.modules.items() if name.startswith("bmdkit")]:
            for name in [name for name, value in vars(module).items() if value is original]:
                setattr(module, name, watched)
    os.fsync = watch.fsync


def nothing() -> None:
    """A job of a child that only has to be there."""


def cost(cohort: Path, out: Path) -> dict[str, float]:
    """Share of the time of a build that is spent on safety."""
    start = os.times()
    (outcome,) = processes.run_jobs(nothing, [("start", ())], processes.RunnerConfig())
    if outcome.code is not None:
        raise SystemExit(f"a child did not start: {outcome.code}")
    spent = os.times()
    child_s = sum(spent[:4]) - sum(start[:4])
    watch = Watch()
    install(watch)
    cohort_build.run_jobs = lambda function, jobs, config: (  # in this process, where it can be watched
        replace(processes.run_timed(function, arguments), name=name) for name, arguments in jobs
    )
    begun = time.process_time()
    summary = build_cases(read_cohort(cohort).cases, out)
    whole_s = time.process_time() - begun + watch.disk_s
    cases = len(summary.reports)
    if not summary.pairs_ok:
        raise SystemExit("no pair was built: there is nothing to measure")
    safety_s = watch.cpu_s + watch.disk_s
    share_s = child_s * cases / processes.RunnerConfig().recycle_after
    return {
        "cost: cases": cases,
        "cost: seconds of a case": whole_s / cases,
        "cost: of these, CPU of hashing, records and publishing": watch.cpu_s / cases,
        "cost: of these, waiting for the disk": watch.disk_s / cases,
        "cost: seconds to start and end a child": child_s,
        "cost: percent of this build": 100 * (safety_s + child_s) / (whole_s + child_s),
        "cost: percent of a build of many cases": 100 * (safety_s + share_s) / (whole_s + share_s),
    }


def tiny_cohort(root: Path, count: int) -> None:
    """Patients whose CT is a few voxels of air, fat and muscle: read, and quarantined for want of bones."""
    grid = Grid((12, 40, 48), (2.0, 2.5, 3.0), (0.0, 0.0, 0.0), np.eye(3))
    hu = np.full(grid.shape, -1000, np.int16)
    hu[:, 5:35, 5:43] = 40
    hu[:, 28:35, 5:43] = -100
    (root / "ct").mkdir(parents=True)
    with (root / "cohort.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["patient_id", "ct", "xray", "side"])
        for number in range(count):
            hu[0, 0, 0] = -1000 + number % 50
            write_volume(root / "ct" / f"p{number:04}.nii", Volume(hu, grid, "hu"))
            (root / "ct" / f"p{number:04}.dcm").write_bytes(b"never read")
            table.writerows((f"p{number:04}", f"ct/p{number:04}.nii", f"ct/p{number:04}.dcm", side) for side in "LR")


def size(root: Path, count: int) -> dict[str, float]:
    """Memory of the parent over a build of so many cases and of a tenth of them, and how soon it begins and tells."""
    found = built(root / "many", count)
    fewer = built(root / "fewer", count // 10)["size: MiB of the parent, at most, to the end"]
    return found | {"size: MiB of the parent, at most, to the end, of a tenth of the cases": fewer}


def built(root: Path, count: int) -> dict[str, float]:
    """Build so many tiny cases and watch."""
    cohort, out = root / "tiny", root / "tiny-built"
    tiny_cohort(cohort, count)
    words = [
        str(cohort),
        "--out",
        str(out),
        "--n-jobs",
        "2",
        "--no-report",
        "--set",
        "calibration.mode=none",
        "--segmentation",
        "labels",
        "--quiet",
    ]
    start = time.monotonic()
    command = [sys.executable, "-m", "bmdkit.cli.main", "build-dataset", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)
    first_s, first_cpu_s = float("nan"), float("nan")
    told: list[tuple[float, float]] = []
    samples: list[tuple[int, float]] = []
    while process.poll() is None:
        if np.isnan(first_s) and any((out / ".staging").glob("*/*")):
            first_s, first_cpu_s = time.monotonic() - start, cpu_of(parent)
        done = len(list((out / "cases").iterdir())) if (out / "cases").is_dir() else 0
        try:
            samples.append((done, parent.memory_info().rss / MIB))
        except psutil.Error:
            break
        if done > count * (len(told) + 1) / 3:
            told.append(status(out))
        time.sleep(0.02 if np.isnan(first_s) else 0.1)
    ended = process.wait()
    if ended != 3:
        raise SystemExit(f"the tiny cases ended with {ended}, expected 3: all quarantined")
    told.append(status(out))
    early = max(rss for done, rss in samples if done <= SETTLED * count)
    late = max((rss for done, rss in samples if (1 - SETTLED) * count <= done < count), default=float("nan"))
    return {
        "size: cases": count,
        "size: seconds of the build": time.monotonic() - start,
        "size: seconds until the first case was begun": first_s,
        "size: CPU seconds until then, of all processes": first_cpu_s,
        "size: slowest status, seconds": max(wall for wall, _ in told),
        "size: slowest status, CPU seconds": max(cpu for _, cpu in told),
        f"size: MiB of the parent, at most, over the first {SETTLED:.0%} of the cases": early,
        f"size: MiB of the parent, at most, over the last {SETTLED:.0%}": late,
        "size: MiB of the parent, at most, to the end": max(rss for _, rss in samples),
    }


def cpu_of(parent: psutil.Process) -> float:
    """CPU time of a process and its living children, s."""
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def status(out: Path) -> tuple[float, float]:
    """Wall and CPU seconds of `bmdkit status`."""
    command = [sys.executable, "-m", "bmdkit.cli.main", "status", str(out)]
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu_s


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--work", type=Path, help="An empty or new folder; a temporary one if not given.")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--figures", type=Path, help="What `make faults` wrote.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="bmdkit-faults-"))
    numbers: dict[str, float] = {}
    if arguments.figures:
        numbers |= json.loads(arguments.figures.read_text(encoding="utf-8"))
    numbers |= size(work, arguments.cases)
    numbers |= cost(arguments.cohort, work / "built")
    for name, value in numbers.items():
        print(f"{name:85s} {value:.4g}")
    if arguments.json:
        write_figures(arguments.json, numbers, "cpu")


if __name__ == "__main__":
    main()
