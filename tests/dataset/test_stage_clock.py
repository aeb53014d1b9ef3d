"""The time that a case spends in its stages, by the wall and by the processor."""

import time

import pytest

from bmdkit.dataset.build_run import CaseReport, RunOptions
from bmdkit.dataset.context import BuildContext, CaseResult
from bmdkit.dataset.journal import Journal
from bmdkit.dataset.settings import BuildConfig
from bmdkit.dataset.stage_clock import Spent, StageClock
from bmdkit.io.results import read_csv


def test_waiting_costs_wall_time_and_work_costs_processor_time():
    clock = StageClock()
    with clock("waits"):
        time.sleep(0.2)
    began = time.process_time()
    with clock("works"):
        while time.process_time() - began < 0.2:
            pass
    assert clock.spent["waits"].seconds >= 0.2
    assert clock.spent["waits"].cpu_seconds < 0.1
    assert clock.spent["works"].cpu_seconds == pytest.approx(0.2, abs=0.05)


def test_a_stage_that_comes_twice_is_summed():
    clock = StageClock()
    for _ in range(2):
        with clock("register"):
            time.sleep(0.05)
    assert list(clock.spent) == ["register"]
    assert clock.spent["register"].seconds >= 0.1


def test_the_table_of_times_holds_both_of_every_stage_that_was_worked_on(tmp_path):
    journal = Journal(BuildContext(tmp_path, tmp_path / "staging", BuildConfig()), (), RunOptions())
    made = CaseResult("p01", "ok", spent={"ct": Spent(2.0, 1.5), "register": Spent(9.0, 8.25)})
    journal.add(CaseReport("p01", "ok", False, (), 11.0, 1, 2), made)
    journal.add(CaseReport("p02", "ok", True, (), 0.1, 2, 2), CaseResult("p02", "ok", reused=True))
    assert read_csv(tmp_path / "logs" / "timings.csv") == [
        {"patient_id": "p01", "stage": "ct", "seconds": "2.000", "cpu_seconds": "1.500"},
        {"patient_id": "p01", "stage": "register", "seconds": "9.000", "cpu_seconds": "8.250"},
    ]
