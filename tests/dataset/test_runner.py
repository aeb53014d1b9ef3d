"""Jobs in children: each lives and dies alone."""

from __future__ import annotations

import os
import time

import pytest

from bmdkit.dataset.runner import RunnerConfig, run_jobs
from bmdkit.errors import DiskFullError


def deed(what):
    """In a child."""
    if what == "die":
        os._exit(7)
    if what == "hang":
        time.sleep(600)
    if what == "disk":
        raise OSError(28, "No space left on device")
    if what == "network":
        raise OSError(116, "Stale file handle", "/clinic/DOE_JANE.dcm")
    return what, os.environ["OMP_NUM_THREADS"]


def run(*deeds, **config):
    jobs = ((f"{number}", (what,)) for number, what in enumerate(deeds))
    return {outcome.name: outcome for outcome in run_jobs(deed, jobs, RunnerConfig(**config))}


def test_a_job_that_dies_or_hangs_loses_nothing_but_itself():
    outcomes = run("a", "die", "b", "hang", "c", n_jobs=2, timeout_s=6.0, recycle_after=2)
    assert {name: outcome.value for name, outcome in outcomes.items() if outcome.value} == {
        "0": ("a", "1"),
        "2": ("b", "1"),
        "4": ("c", "1"),
    }
    assert (outcomes["1"].code, outcomes["3"].code) == ("BMD-RUN-001", "BMD-RUN-002")
    assert "7" in outcomes["1"].reason


def test_a_full_disk_stops_everything():
    with pytest.raises(DiskFullError):
        run("a", "disk", "b")


def test_a_file_that_cannot_be_read_fails_its_job_and_is_no_bug():
    outcome = run("network")["0"]
    assert (outcome.code, outcome.reason) == ("BMD-RUN-005", "Stale file handle")
    assert "JANE" not in outcome.detail


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"n_jobs": 0}, {"recycle_after": 0}, {"timeout_s": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            RunnerConfig(**wrong)
