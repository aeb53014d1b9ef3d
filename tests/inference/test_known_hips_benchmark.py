"""The benchmark part that fits a line to hips of known BMD: who gives the line, and who is measured."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import known_hips

    return known_hips


def test_the_lines_and_the_mean_are_of_the_given_hips_and_the_others_are_measured(module) -> None:
    told = np.array([0.4, 0.6, 0.4, 0.6, 0.5, 0.8])
    known = np.array([0.7, 0.9, 0.7, 0.9, 0.9, 1.0])
    given = np.arange(6) < 4  # the line: told + 0.3; the mean: 0.8
    found = module.measure_line(told, known, given, list("abcdef"))
    assert found["mae_after_line_g_cm2"] == pytest.approx((0.1 + 0.1) / 2)
    assert found["mae_of_the_mean_g_cm2"] == pytest.approx((0.1 + 0.2) / 2)
    assert found["mae_ratio"] == pytest.approx(0.1 / 0.15)
    assert found["recalibrated_ratio"] == pytest.approx(0.1 / 0.15)  # its slope is 1 as well
    assert found["pcc"] == pytest.approx(1.0)


def test_two_patients_give_the_line_of_least_squares_alone(module) -> None:
    """A shorter line may be asked for, such as that of four hips."""
    told = np.array([0.4, 0.6, 0.5, 0.8])
    found = module.measure_line(told, told + 0.3, np.arange(4) < 2, list("abcd"))
    assert found["mae_after_line_g_cm2"] == pytest.approx(0.0, abs=1e-9)
    assert "recalibrated_ratio" not in found
    assert not {name for name in module.draw_lines(told, told + 0.3, list("abcd"), 2) if "recalibrated" in name}


def test_draws_take_whole_patients(module) -> None:
    rng = np.random.default_rng(3)
    of_patient = rng.uniform(0.5, 1.1, 8)
    known = np.repeat(of_patient, 4)
    told = known + np.repeat(rng.normal(0, 0.2, 8), 4)
    patients = [f"p{n}" for n in range(8) for _ in range(4)]
    once = module.draw_lines(of_patient, of_patient + 0.1, [f"p{n}" for n in range(8)], 4)
    assert once["drawn.mae_ratio"] == pytest.approx(0.0, abs=1e-9)
    assert once["drawn.recalibrated_ratio"] == pytest.approx(0.0, abs=1e-9)
    every, one_each = (
        module.draw_lines(told[::step], known[::step], patients[::step], 4) for step in (1, 4)
    )  # copies of a patient's image change nothing where all of them are on one side
    assert every == pytest.approx(one_each)
    assert every["drawn.mae_ratio_low"] < every["drawn.mae_ratio"] < every["drawn.mae_ratio_high"]
