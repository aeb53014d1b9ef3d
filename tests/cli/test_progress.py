"""How far a command is: lines with an estimate where there is no terminal."""

from __future__ import annotations

import itertools
import logging

import pytest

from bmdkit.cli import progress
from bmdkit.dataset.build_run import CaseReport


@pytest.fixture
def lines(caplog):
    """The messages of the log, as they are written."""
    caplog.set_level(logging.INFO, "bmdkit")
    return lambda: [record.getMessage() for record in caplog.records]


def ticking(seconds: float):
    """A clock that goes on by as much at every look."""
    ticks = itertools.count()
    return lambda: next(ticks) * seconds


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, ", about 2 s left"), (90.0, ", about 14 min left"), (600.0, ", about 1 h 30 min left")],
)
def test_an_estimate_is_the_mean_time_of_a_step_times_those_left(seconds, expected) -> None:
    estimate = progress.Estimate(ticking(seconds))
    assert estimate.describe(5, 15) == ""  # five were done before
    assert estimate.describe(6, 15) == expected
    assert estimate.describe(15, 15) == ""


def test_steps_are_told_at_once_then_seldom_and_at_the_end(lines) -> None:
    with progress.counting_bar("slices", clock=ticking(8)) as on_progress:  # the clock is looked at twice a step
        for done in range(7):
            on_progress(done, 6)
    assert [line.split(",")[0] for line in lines()] == ["slices: 0/6", "slices: 2/6", "slices: 4/6", "slices: 6/6"]
    assert lines()[1] == "slices: 2/6, about 1 min left"


def test_every_named_step_has_a_line(lines) -> None:
    with progress.naming_bar("patients", clock=ticking(60)) as on_step:
        on_step(0, 3, "")
        on_step(1, 3, "sim000")
        on_step(2, 3, "sim001")
    expected = ["patients: 0/3", "patients: 1/3 sim000, about 2 min left", "patients: 2/3 sim001, about 1 min left"]
    assert lines() == expected


def test_every_epoch_has_a_line_with_its_figures(lines) -> None:
    with progress.epochs_bar(clock=ticking(60)) as on_epoch:
        on_epoch(1, 4, {"epoch": 1, "l1": 0.12345, "tune_pcc": None})
        on_epoch(2, 4, {"epoch": 2, "l1": 0.1, "tune_pcc": 0.5, "images_per_s": 12.345})
    assert lines() == ["epoch 1/4: l1 0.1235", "epoch 2/4: l1 0.1, tune_pcc 0.5, 12.3 images/s, about 2 min left"]


def test_a_build_tells_its_stage_and_the_number_of_cases_before_the_first_is_done(lines) -> None:
    with progress.cases_bar(clock=ticking(60)) as tell:
        tell.on_stage("checking", 3)
        tell.on_stage("building", 2)
        tell.on_case(CaseReport("p1", "ok", False, (), 12.3, 1, 2))
    assert lines() == ["building: 2 cases", "1/2 p1: ok, 12 s, about 2 min left"]


def test_a_build_without_news_for_long_tells_the_stages_of_its_cases(lines) -> None:
    with progress.cases_bar(clock=ticking(8)) as tell:  # the clock is looked at once or twice a call
        tell.on_stage("building", 9)
        tell.on_work({})
        for number in range(1, 9):
            tell.on_work({"p1": f"register {number}/9"})
        tell.on_work({f"p{n}": "regions" for n in range(1, 7)})
    assert lines() == [
        "building: 9 cases",
        "0/9 done, at work: p1 register 3/9",
        "0/9 done, at work: p1 register 7/9",
    ]


def test_of_many_cases_at_work_a_few_are_named(lines) -> None:
    with progress.cases_bar(clock=ticking(40)) as tell:
        tell.on_stage("building", 9)
        tell.on_work({f"p{n}": "regions" for n in range(1, 7)})
    assert lines()[-1] == "0/9 done, at work: p1 regions, p2 regions, p3 regions, p4 regions, and 2 more"
