"""The whole command on simulated hips: killed, resumed, shared out, and always the same bytes."""

from __future__ import annotations

import csv
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from quick_builds import build, command, simulate
from test_cohort_build import tree

from bmdkit.dataset.case_meta import find_damage, read_meta
from bmdkit.dataset.layout import CASES, STAGING

KILLS, PARTS = 50, 10
PATIENTS = 3
JOBS = 2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return simulate(tmp_path_factory.mktemp("real") / "cohort", PATIENTS)


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """The bytes of an undisturbed build, and how long it takes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    build(cohort, out, "--only", "sim000")  # what is compiled is compiled now
    shutil.rmtree(out)
    start = time.monotonic()
    assert build(cohort, out, "--n-jobs", str(JOBS)).returncode == 0
    return tree(out), time.monotonic() - start


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_random_moments_nothing_is_lost(cohort, whole, tmp_path, figure, part):
    """The command or one of its workers is killed; run again, no more is done again than had been begun."""
    expected, lasts_s = whole
    rng = np.random.default_rng([11, part])
    number, missed = 0, 0
    while number < KILLS // PARTS:
        out = tmp_path / f"out-{number}"
        process = subprocess.Popen(
            command(cohort, out, "--n-jobs", str(JOBS)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.1, 1.0) * lasts_s * 0.9**missed)
        killed = kill(process, ("parent", "worker")[(part + number) % 2], rng)
        process.wait()
        if not killed:  # it had come to its end: another moment, earlier if that happens again
            missed += 1
            shutil.rmtree(out)
            continue
        kept, redone, bad = look_at(out)
        again = build(cohort, out, "--n-jobs", str(JOBS))
        lost = again.returncode != 0 or tree(out) != expected
        figure("kills: builds", 1)
        figure("kills: builds whose bytes differ after resuming", lost)
        figure("kills: published files that were not whole", bad)
        assert (lost, bad) == (False, 0), again.stderr
        reused = int(re.search(r"\((\d+) kept", again.stdout).group(1))
        redone -= reused - kept  # a worker may finish its case after the command was killed and looked at
        figure("kills: most cases begun and done again", redone, max)
        assert redone <= JOBS
        assert reused >= kept
        assert not (out / STAGING).exists()
        shutil.rmtree(out)
        number += 1


def kill(process: subprocess.Popen, who: str, rng: np.random.Generator) -> bool:
    """SIGKILL to the command, or to one of the processes that it has started; whether there was one."""
    if process.poll() is not None:
        return False
    victims = [psutil.Process(process.pid)] if who == "parent" else workers(process)
    if victims:
        victims[rng.integers(len(victims))].send_signal(signal.SIGKILL)
    return bool(victims)


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children():
        try:
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def look_at(out: Path) -> tuple[int, int, int]:
    """After a kill: cases that are whole, those begun that are not, and published files that are not as vouched for."""
    whole, failed, bad = staged_whole(out), set(), 0
    for case in (out / CASES).glob("*"):
        meta = read_meta(out, case.name)
        if meta is not None:
            bad += len(list(find_damage(out, meta)))
            (whole if meta.status == "ok" else failed).add(case.name)
    begun = {path.name for path in (out / STAGING).glob("*/*")} - whole
    return len(whole), len(begun | failed), bad


def staged_whole(out: Path) -> set[str]:
    """Cases that were ready to be published and will be, as the files in the staging folder are whole."""
    whole = set()
    for staged in (out / STAGING).glob("*/*"):
        meta = read_meta(staged, staged.name)
        if (
            meta is not None
            and meta.status == "ok"
            and not set(find_damage(staged, meta)) & set(find_damage(out, meta))
        ):
            whole.add(staged.name)
    return whole


def test_the_same_bytes_whatever_the_way(cohort, whole, tmp_path, figure):
    """Jobs 1 and 2, rows in another order, shards, and the workers of a Dask cluster."""
    distributed = pytest.importorskip("distributed")
    expected, _ = whole
    assert build(cohort, tmp_path / "one", "--n-jobs", "1").returncode == 0
    shuffled = shuffle(cohort, tmp_path / "shuffled cohort")
    assert build(shuffled, tmp_path / "shuffled", "--n-jobs", "2").returncode == 0
    for shard in ("2/3", "1/3", "3/3"):
        assert build(cohort, tmp_path / "shards", "--shard", shard).returncode == 0
    assert build(cohort, tmp_path / "shards").returncode == 0
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        assert build(cohort, tmp_path / "dask", "--dask", cluster.scheduler_address).returncode == 0
    ways = ("one", "shuffled", "shards", "dask")
    same = sum(tree(tmp_path / way) == expected for way in ways)
    figure("ways of building beside two local jobs", len(ways))
    figure("ways of building with identical hashes", same)
    assert same == len(ways)


def shuffle(cohort: Path, to: Path) -> Path:
    """The same cohort with its rows in another order."""
    shutil.copytree(cohort, to)
    with (to / "cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    order = np.random.default_rng(2).permutation(len(rows))
    with (to / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[number] for number in order)
    return to
