"""small cohorts for builds: their files are not images, and the stages are those of `fake_stages`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pebble
import pytest
from fake_stages import make_cases

from bmdkit.dataset import cohort_build
from bmdkit.jobs.processes import run_timed

sys.path.insert(0, str(Path(__file__).parent))  # children import the fake stages by name


@pytest.fixture
def cases(tmp_path: Path):
    """Six patients with two hips each."""
    return make_cases(tmp_path / "cohort", 6)


@pytest.fixture
def in_process(monkeypatch):
    """Cases one after the other in this process: for what does not depend on processes."""

    def run_here(function, jobs, config, **_):
        return (replace(run_timed(function, arguments), name=name) for name, arguments in jobs)

    monkeypatch.setattr(cohort_build, "run_jobs", run_here)


@pytest.fixture
def only_hanging_cases_are_limited(monkeypatch):
    """The limit of time holds for cases that hang: how busy the machine is changes nothing for the others."""

    class Limited(pebble.ProcessPool):
        def schedule(self, function, args, timeout=None):
            case, _ = args[1]
            hangs = case.ct.read_text().startswith("hang")
            return super().schedule(function, args=args, timeout=timeout if hangs else None)

    monkeypatch.setattr(pebble, "ProcessPool", Limited)
