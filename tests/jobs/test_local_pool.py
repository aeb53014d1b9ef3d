"""Calls side by side: every result once, one thread each, errors and closing as in one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bmdkit.errors import PreflightError
from bmdkit.jobs.local_pool import run_in_pool


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 2:
        raise PreflightError("BMD-SIM-001", "it holds something else.")
    return number


def describe_threads(number: int) -> tuple[int, str | None, str | None, int]:
    import numba

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return os.getpid(), os.environ.get(names[0]), os.environ.get(names[1]), numba.config.NUMBA_NUM_THREADS


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_every_call_gives_its_result_once(n_jobs):
    assert sorted(run_in_pool(square, [(n,) for n in range(7)], n_jobs)) == [n * n for n in range(7)]


def test_one_job_runs_in_this_process_and_in_order():
    found = list(run_in_pool(describe_threads, [(n,) for n in range(3)], 1))
    assert {entry[0] for entry in found} == {os.getpid()}
    assert list(run_in_pool(square, [(3,), (1,), (2,)], 1)) == [9, 1, 4]


def test_each_process_has_one_thread():
    found = list(run_in_pool(describe_threads, [(n,) for n in range(4)], 2))
    assert os.getpid() not in {entry[0] for entry in found}
    assert {entry[1:] for entry in found} == {("1", "1", 1)}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_of_a_call_comes_as_it_was(n_jobs):
    with pytest.raises(PreflightError, match="BMD-SIM-001"):
        list(run_in_pool(refuse, [(n,) for n in range(4)], n_jobs))


def test_it_can_be_left_before_its_end():
    results = run_in_pool(square, [(n,) for n in range(50)], 2)
    assert next(results) in {n * n for n in range(50)}
    results.close()
    assert list(run_in_pool(square, [(2,), (3,)], 2)) in ([4, 9], [9, 4])


def wait_for_the_end(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    signal.pause()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM"])
def test_a_killed_command_leaves_nobody_at_work(end, tmp_path):
    code = (
        "from bmdkit.jobs.local_pool import run_in_pool; from test_local_pool import wait_for_the_end;"
        f"list(run_in_pool(wait_for_the_end, [({str(tmp_path)!r},)] * 2, 2))"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths})
    try:
        while len(list(tmp_path.iterdir())) < 2:
            assert command.poll() is None
            time.sleep(0.05)
        workers = [psutil.Process(int(path.name)) for path in tmp_path.iterdir()]
    finally:
        command.send_signal(getattr(signal, end))
        command.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for worker in alive:
        worker.kill()
    assert not alive


def test_no_jobs_are_a_mistake():
    with pytest.raises(ValueError, match="n_jobs"):
        list(run_in_pool(square, [(1,)], 0))
