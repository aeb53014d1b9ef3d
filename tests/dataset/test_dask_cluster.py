"""The same bytes from a cluster, whose workers and cases may die."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from fake_stages import build_fake, make_cases
from test_cohort_build import build, tree

from bmdkit.dataset import integrity
from bmdkit.dataset.cohort_build import RunOptions, build_cases
from bmdkit.errors import BmdkitError, DiskFullError, PreflightError
from bmdkit.jobs.dask_cluster import run_on_dask
from bmdkit.jobs.processes import RunnerConfig

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """Two workers with a thread each; a task may lose three of them, as is Dask's default."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as running:
        yield running


def on_dask(cases, out: Path, cluster, timeout_s: float | None = None, **how):
    options = RunOptions(RunnerConfig(timeout_s=timeout_s), dask=cluster.scheduler_address)
    return build_cases(cases, out, None, options, build_one=build_fake, **how)


def kill_self_worker(folder: str):
    """A job of a poisonous kind: it kills the worker that runs it, its own parent."""
    (Path(folder) / f"tried-{os.getpid()}").touch()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def fill(_):
    raise OSError(28, "No space left on device")


def test_bad_cases_fail_alone_and_the_rest_are_what_this_machine_makes(tmp_path, cluster):
    cases = make_cases(tmp_path / "cohort", 4, {0: "kill", 2: "raise"})
    summary = on_dask(cases, tmp_path / "out", cluster)
    codes = {report.patient_id: {code for _, code, _ in report.problems} for report in summary.reports}
    assert codes == {"p00": {"BMD-RUN-001"}, "p01": set(), "p02": {"BMD-RUN-004"}, "p03": set()}
    assert summary.exit_code == 3
    build(cases, tmp_path / "local")
    assert tree(tmp_path / "out") == tree(tmp_path / "local")
    assert integrity.check_files(tmp_path / "out") == []
    assert not (tmp_path / "out" / ".staging").exists()


def test_a_case_that_hangs_is_ended_and_named(tmp_path, cluster):
    """Alone, so that no other case can meet the limit of time on a busy machine."""
    cases = make_cases(tmp_path / "cohort", 1, {0: "hang"})
    summary = on_dask(cases, tmp_path / "out", cluster, timeout_s=1.0)
    assert [(report.status, report.problems[0][1]) for report in summary.reports] == [("failed", "BMD-RUN-002")]


def test_a_full_disk_stops_everything(tmp_path, cluster):
    jobs = [("a", (1,))]
    with pytest.raises(DiskFullError):
        list(run_on_dask(fill, jobs, RunnerConfig(), address=cluster.scheduler_address, alive=tmp_path))


def test_workers_that_do_not_see_the_output_are_named(tmp_path, cluster):
    jobs, gone = [("a", (1,))], tmp_path / "elsewhere"
    (outcome,) = run_on_dask(fill, jobs, RunnerConfig(), address=cluster.scheduler_address, alive=gone)
    assert (outcome.name, outcome.code) == ("a", "BMD-RUN-039")


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("bmdkit.jobs.dask_cluster._ANSWER_WITHIN_S", 0.5)
    with pytest.raises(PreflightError) as caught:
        list(run_on_dask(fill, [], RunnerConfig(), address="tcp://127.0.0.1:9", alive=tmp_path))
    assert caught.value.code == "BMD-RUN-038"


@pytest.mark.slow
def test_killed_workers_lose_nothing(tmp_path, cluster):
    cases = make_cases(tmp_path / "cohort", 12, dict.fromkeys(range(12), "slow0.5"))
    build(cases, tmp_path / "local")
    killed = []

    def kill_one() -> None:
        pids = [worker["pid"] for worker in _workers(cluster)]
        if pids:
            os.kill(pids[len(killed) % len(pids)], signal.SIGKILL)
            killed.append(pids)

    def on_case(report) -> None:
        if report.done in (1, 4, 7):
            threading.Timer(0.4, kill_one).start()

    summary = on_dask(cases, tmp_path / "out", cluster, on_case=on_case)
    assert len(killed) == 3
    assert summary.exit_code == 0, summary.problems
    assert tree(tmp_path / "out") == tree(tmp_path / "local")


@pytest.mark.slow
def test_a_case_whose_workers_die_is_named_and_given_up(tmp_path, cluster):
    jobs = [("poison", (str(tmp_path),))]
    (outcome,) = run_on_dask(kill_self_worker, jobs, RunnerConfig(), address=cluster.scheduler_address, alive=tmp_path)
    assert (outcome.name, outcome.code) == ("poison", "BMD-RUN-001")
    assert 2 <= len(list(tmp_path.glob("tried-*"))) <= 5


@pytest.mark.slow
def test_a_scheduler_that_goes_ends_the_run_and_it_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr("bmdkit.jobs.dask_cluster._ANSWER_WITHIN_S", 3.0)
    cases = make_cases(tmp_path / "cohort", 6, dict.fromkeys(range(6), "slow0.5"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as short:

        def on_case(report) -> None:
            if report.done == 2:
                short.close()

        with pytest.raises(BmdkitError) as caught:
            on_dask(cases, tmp_path / "out", short, on_case=on_case)
    assert caught.value.code == "BMD-RUN-038"
    assert build(cases, tmp_path / "out").exit_code == 0
    build(cases, tmp_path / "local")
    assert tree(tmp_path / "out") == tree(tmp_path / "local")


def _workers(cluster) -> list[dict]:
    """Address and process of each worker."""
    with distributed.Client(cluster, set_as_default=False) as client:
        return [{"pid": pid} for pid in client.run(os.getpid).values()]
