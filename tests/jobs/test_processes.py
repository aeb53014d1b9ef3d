"""Jobs in children: each lives and dies alone."""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures.process import BrokenProcessPool

import pebble
import pytest

from bmdkit.errors import DiskFullError
from bmdkit.jobs import processes
from bmdkit.jobs.processes import RunnerConfig, call_seldom, run_jobs


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


@pytest.fixture
def limits(monkeypatch):
    """The limit of every job as the pool is given it; it holds for those that hang alone, however busy the machine."""
    given = []

    class Limited(pebble.ProcessPool):
        def schedule(self, function, args, timeout=None):
            given.append(timeout)
            return super().schedule(function, args=args, timeout=timeout if args[1] == ("hang",) else None)

    monkeypatch.setattr(pebble, "ProcessPool", Limited)
    return given


def test_a_job_that_dies_or_hangs_loses_nothing_but_itself(limits):
    outcomes = run("a", "die", "b", "hang", "c", n_jobs=2, timeout_s=2.0, recycle_after=2)
    assert limits == [2.0] * 5
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


@pytest.mark.parametrize("lives", [(3, 99), (0,)])
def test_jobs_of_a_pool_that_ends_go_on_in_another(monkeypatch, lives):
    """As when a process is killed while it starts: each pool takes so many jobs, and then has come to its end."""
    left = itertools.chain(lives, itertools.repeat(0))

    class Ending(pebble.ProcessPool):
        def __init__(self, **given):
            super().__init__(**given)
            self.life = next(left)

        def schedule(self, *given, **named):
            if not self.life:
                future = pebble.ProcessFuture()
                future.set_exception(BrokenProcessPool())
                return future
            self.life -= 1
            return super().schedule(*given, **named)

    monkeypatch.setattr(pebble, "ProcessPool", Ending)
    outcomes = run("a", "b", "c", "d", "e", n_jobs=2)
    assert len(outcomes) == 5
    if any(lives):
        assert [outcomes[name].value[0] for name in sorted(outcomes)] == ["a", "b", "c", "d", "e"]
    else:  # no process ever begins anything
        assert {outcome.code for outcome in outcomes.values()} == {"BMD-RUN-001"}


def test_a_call_that_comes_too_soon_is_left_out(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(processes.time, "monotonic", lambda: now[0])
    calls = []
    call = call_seldom(lambda: calls.append(now[0]), 1.0)
    for now[0] in (100.0, 100.4, 100.9, 101.0, 101.5, 103.0):
        call()
    assert calls == [100.0, 101.0, 103.0]
