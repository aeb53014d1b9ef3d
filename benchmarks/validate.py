"""How long `bmdkit validate` takes for a table of many rows with their files, and what of it is reading them.

    bmdkit simulate COHORT --patients 4
    python benchmarks/validate.py COHORT [--rows N] [--n-jobs N] [--json FILE]

The patients of COHORT are given again and again under new names, their files as links, until the table has N rows. It
is validated by the command, in processes of its own. The files of one patient after the other are read by the same
readers as there, in this process, until five seconds are spent; that time, for all patients, is taken off.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figure_files import write_figures

from bmdkit.core.case import Case
from bmdkit.io.cohort import read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.label_maps import read_labels
from bmdkit.io.markups import read_landmarks
from bmdkit.io.xray import inspect_radiograph

READING_S = 5.0
FILES = ("ct", "xray", "landmarks", "labels", "calibration")


def link_input(given: Path, place: Path) -> None:
    """Link a file with its side-car, or the files of a folder, under another name."""
    place.parent.mkdir(exist_ok=True)
    if place.exists():
        return
    if given.is_dir():
        shutil.copytree(given, place, copy_function=os.link)
    else:
        os.link(given, place)
        side_car = given.with_name(f"{given.name.partition('.')[0]}.json")
        if side_car != given and side_car.exists():
            os.link(side_car, place.with_name(f"{place.name.partition('.')[0]}.json"))


def link_cohort(cohort: Path, target: Path, count: int) -> int:
    """Write a table of at least `count` rows whose files are links; returns the number of patients."""
    with (cohort / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    patients = {name: list(own) for name, own in itertools.groupby(rows, key=lambda row: row["patient_id"])}
    written: list[dict[str, str]] = []
    made = 0
    for name in itertools.cycle(patients):
        if len(written) >= count:
            break
        for row in patients[name]:
            new = dict(row) | {"patient_id": f"copy{made:04d}"}
            for column in FILES:
                if row.get(column):
                    place = Path(column) / f"copy{made:04d}_{Path(row[column]).name}"
                    link_input(cohort / row[column], target / place)
                    new[column] = place.as_posix()
            written.append(new)
        made += 1
    with (target / "cohort.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(written[0]))
        writer.writeheader()
        writer.writerows(written)
    return made


def read_files(case: Case) -> None:
    """Read what a validation opens of one case."""
    if case.labels is not None or not case.ct.is_dir():
        read_ct(case.ct)
    if case.labels is not None:
        read_labels(case.labels)
    for path in case.xrays:
        inspect_radiograph(path)
    for side in case.sides:
        if (path := case.landmarks_of(side)) is not None:
            read_landmarks(path, side)


def measure_reading(cohort: Path) -> float:
    """CPU time of reading the files of one patient, s, the mean of several."""
    cases = read_cohort(cohort).cases
    read_files(cases[0])  # what is loaded on first use is no reading
    start, done = time.process_time(), 0
    for case in itertools.cycle(cases):
        read_files(case)
        done += 1
        if time.process_time() - start > READING_S:
            break
    return (time.process_time() - start) / done


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.cohort.parent) as folder:  # links stay on one disk
        patients = link_cohort(options.cohort, Path(folder), options.rows)
        words = [sys.executable, "-m", "bmdkit.cli.main", "validate", folder, "--n-jobs", str(options.n_jobs)]
        start = time.monotonic()
        status = subprocess.run(words, check=False).returncode
        wall = time.monotonic() - start
        if status:
            raise SystemExit(f"validate ended with {status}")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = spent.ru_utime + spent.ru_stime
    reading = patients * measure_reading(options.cohort)
    figures = {
        "rows": float(options.rows),
        "patients": float(patients),
        "jobs": float(options.n_jobs),
        "wall time, s": wall,
        "CPU time of all processes, s": cpu,
        "CPU time of reading the files, s": reading,
        "CPU time without reading, on each of two cores, s": (cpu - reading) / 2,
    }
    for name, value in figures.items():
        print(f"{name:56s} {value:10.4g}")
    if options.json:
        write_figures(options.json, figures, "cpu", cohort=options.cohort.name)


if __name__ == "__main__":
    main()
