"""A whole build held against its cohort's truth: errors, cost, memory, and the same bytes however it is run.

    bmdkit simulate COHORT --patients 2
    python benchmarks/build.py COHORT [--work DIR] [--quick] [--json FILE]

Builds the cohort with one job; then with two, and once more with the process group killed on the way and the command
given again; SHA256SUMS must be equal. Memory is the peak of the largest process. For a CT of 512 x 512 x 500:
`bmdkit simulate BIG --patients 1 --poses standing --full-size --slice-mm 0.75`, then `--quick` (one build).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figure_files import write_figures

from bmdkit.evaluation.summary import summarise
from bmdkit.io.results import read_csv

FINISHED = (0, 3)  # 3: built, some cases left out and named


def command(cohort: Path, out: Path, n_jobs: int) -> list[str]:
    """Words of the command line that builds a cohort."""
    words = ["build-dataset", str(cohort), "--out", str(out), "--n-jobs", str(n_jobs), "--quiet"]
    return [sys.executable, "-m", "bmdkit.cli.main", *words]


def build(cohort: Path, out: Path, n_jobs: int) -> float:
    """Wall time of one build, s."""
    start = time.monotonic()
    status = subprocess.run(command(cohort, out, n_jobs), check=False).returncode
    if status not in FINISHED:
        raise SystemExit(f"build-dataset ended with {status}")
    return time.monotonic() - start


def killed_and_resumed(cohort: Path, out: Path, after_s: float) -> None:
    """Start a build in a process group of its own, kill all of it, and build again."""
    process = subprocess.Popen(command(cohort, out, 2), start_new_session=True)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    build(cohort, out, 2)


def sums(out: Path) -> str:
    """Contents of SHA256SUMS of a dataset."""
    return (out / "SHA256SUMS").read_text(encoding="utf-8")


def sum_stages(out: Path) -> dict[str, float]:
    """Core-seconds of each stage of a build, all cases together, for each of its radiographs."""
    radiographs = len(list(out.glob("cases/*/registration_*.json")))
    spent: dict[str, float] = {}
    for row in read_csv(out / "logs" / "timings.csv"):
        spent[row["stage"]] = spent.get(row["stage"], 0.0) + float(row["cpu_seconds"])
    return {f"{stage}: core-seconds a radiograph": value / radiographs for stage, value in spent.items()}


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--work", type=Path, help="Where to build; a temporary folder if not given.")
    parser.add_argument("--quick", action="store_true", help="One build only.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="bmdkit-build-"))
    numbers: dict[str, float | str] = {}

    one = work / "one"
    shutil.rmtree(one, ignore_errors=True)
    numbers["wall_seconds_1_job"] = build(arguments.cohort, one, 1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    numbers["cpu_seconds_1_job"] = used.ru_utime + used.ru_stime
    numbers["peak_gib"] = used.ru_maxrss / 2**20
    for finding in summarise(one, arguments.cohort / "truth"):
        unit = f" [{finding.unit}]" if finding.unit else ""
        numbers[f"{finding.quantity}{unit}"] = finding.value
    if not numbers["pairs ok"]:
        raise SystemExit("no pair was built: there is nothing to measure")
    numbers |= sum_stages(one)
    if not arguments.quick:
        for name in ("two", "killed"):
            shutil.rmtree(work / name, ignore_errors=True)
        build(arguments.cohort, work / "two", 2)
        killed_and_resumed(arguments.cohort, work / "killed", numbers["wall_seconds_1_job"] / 4)
        numbers["two_jobs_same_bytes"] = float(sums(one) == sums(work / "two"))
        numbers["killed_and_resumed_same_bytes"] = float(sums(one) == sums(work / "killed"))

    for name, value in numbers.items():
        print(f"{name:70s} {value:.4g}")
    if arguments.json:
        write_figures(arguments.json, numbers, "cpu")


if __name__ == "__main__":
    main()
