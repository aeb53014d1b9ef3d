"""A case that eats memory dies of it alone, and is named for what it did."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fake_stages import make_cases
from test_cohort_build import build, tree

from bmdkit.dataset import integrity
from bmdkit.jobs.processes import RunnerConfig, run_jobs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")


def allocate(megabytes: int) -> float:
    return float(np.ones(megabytes * 1_000_000 // 8).sum())


def test_the_cap_lets_through_what_is_below_it_and_no_more():
    jobs = [("little", (50,)), ("much", (3000,)), ("again", (50,))]
    found = {o.name: o for o in run_jobs(allocate, jobs, RunnerConfig(memory_gb=2.0))}
    assert (found["little"].value, found["again"].value) == (6_250_000, 6_250_000)
    assert found["much"].code == "BMD-RUN-003"
    assert "numpy" not in (found["much"].reason or "")
    with pytest.raises(ValueError, match="memory_gb"):
        RunnerConfig(memory_gb=0)


@pytest.mark.slow
@pytest.mark.usefixtures("only_hanging_cases_are_limited")
def test_of_fifty_cases_the_three_bad_ones_are_named_and_the_rest_are_built(tmp_path, figure):
    deeds = {7: "kill", 21: "hang", 33: "eat"}
    cases = make_cases(tmp_path / "cohort", 50, deeds)
    summary = build(cases, tmp_path / "out", timeout_s=2.0, memory_gb=2.0)
    failed = {
        report.patient_id: {code for _, code, _ in report.problems} for report in summary.reports if report.problems
    }
    figure("bad cases among 50: named", len(failed))
    figure("bad cases among 50: the others built", sum(report.status == "ok" for report in summary.reports))
    assert failed == {"p07": {"BMD-RUN-001"}, "p21": {"BMD-RUN-002"}, "p33": {"BMD-RUN-003"}}
    assert summary.exit_code == 3
    assert sum(report.status == "ok" for report in summary.reports) == 47
    assert integrity.check_files(tmp_path / "out") == []
    assert len([name for name in tree(tmp_path / "out") if name.endswith("drr.tif")]) == 47 * 4
