"""A few hips of known BMD shift what is told, and many turn it."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.evaluation.conformal import conformal_half_width
from bmdkit.evaluation.recalibration import (
    ERROR_SD_G_CM2,
    FEWEST_PATIENTS,
    SLOPE_SD,
    fit_recalibration,
)


def names(count: int, images: int = 1) -> list[str]:
    return [f"p{n}" for n in range(count) for _ in range(images)]


def test_a_constant_error_is_taken_away():
    told = np.array([0.6, 0.7, 0.8, 0.95])
    line = fit_recalibration(told, told + 0.12, names(4))
    assert line.slope == pytest.approx(1)
    assert line.intercept_g_cm2 == pytest.approx(0.12)
    assert line.mae_g_cm2 == pytest.approx(0, abs=1e-12)
    assert (line.patients, line.images) == (4, 4)


@pytest.mark.parametrize("count", [4, 20, 400])
def test_the_slope_is_the_most_probable_one(count):
    """Normal slopes about 1 and normal errors: weight S / (S + (error / slope)^2) of the least squares."""
    told = np.linspace(0.5, 1.0, count)
    line = fit_recalibration(told, 0.1 + 1.5 * told, names(count))
    scatter = float(((told - told.mean()) ** 2).sum())
    weight = scatter / (scatter + (ERROR_SD_G_CM2 / SLOPE_SD) ** 2)
    assert line.slope == pytest.approx(1 + 0.5 * weight)
    assert line.apply(told.mean()) == pytest.approx(0.1 + 1.5 * told.mean())


def test_every_patient_counts_once():
    """One patient with ten times the same image is that patient with one."""
    told, measured = np.array([0.6, 0.7, 0.8, 0.9, 1.0]), np.array([0.7, 0.72, 0.85, 1.0, 1.02])
    line = fit_recalibration(told, measured, names(5))
    repeated = [0] * 10 + [1, 2, 3, 4]
    again = fit_recalibration(told[repeated], measured[repeated], [names(5)[n] for n in repeated])
    assert again.slope == pytest.approx(line.slope)
    assert again.intercept_g_cm2 == pytest.approx(line.intercept_g_cm2)
    assert again.mae_g_cm2 == pytest.approx(line.mae_g_cm2)


def test_errors_are_of_patients_that_did_not_give_the_line():
    rng = np.random.default_rng(3)
    told = rng.normal(0.8, 0.13, 12)
    measured = told + rng.normal(0.05, 0.06, 12)
    line = fit_recalibration(told, measured, names(12))
    errors = []
    for n in range(12):
        others = np.arange(12) != n
        apart = fit_recalibration(told[others], measured[others], names(11))
        errors.append(apart.apply(told[n]) - measured[n])
    assert line.mae_g_cm2 == pytest.approx(np.abs(errors).mean())
    assert line.half_width_g_cm2 == pytest.approx(conformal_half_width(errors, names(12)))
    of_mean = [measured[np.arange(12) != n].mean() - measured[n] for n in range(12)]
    assert line.mae_of_mean_g_cm2 == pytest.approx(np.abs(of_mean).mean())
    assert line.is_of_use


def test_eight_patients_have_no_interval():
    told = np.linspace(0.6, 1.0, 8)
    assert fit_recalibration(told, told, names(8)).half_width_g_cm2 is None


def test_numbers_that_say_nothing_are_of_no_use():
    rng = np.random.default_rng(1)
    line = fit_recalibration(rng.normal(0.8, 0.15, 30), rng.normal(0.8, 0.1, 30), names(30))
    assert not line.is_of_use


def test_numbers_that_say_the_opposite_are_of_no_use():
    """They go with what was measured, but downwards, as where polarity or sides are wrong."""
    told = np.linspace(0.5, 1.1, 40)
    line = fit_recalibration(told, 1.7 - told, names(40))
    assert line.mae_g_cm2 < line.mae_of_mean_g_cm2
    assert line.slope < 0
    assert not line.is_of_use


def test_a_few_hips_do_not_turn_what_is_told_far():
    """Over many draws of four patients the error of others is smaller than by least squares, and never far larger."""
    rng = np.random.default_rng(0)
    told = rng.normal(0.8, 0.1, (300, 4))
    measured = -0.1 + 1.1 * told + rng.normal(0, 0.07, told.shape)
    new = rng.normal(0.8, 0.1, 200)
    ours, least_squares = [], []
    for given, truth in zip(told, measured, strict=True):
        line = fit_recalibration(given, truth, names(4))
        slope, intercept = np.polyfit(given, truth, 1)
        ours.append(np.abs(line.apply(new) - (-0.1 + 1.1 * new)).mean())
        least_squares.append(np.abs(intercept + slope * new - (-0.1 + 1.1 * new)).mean())
    assert np.mean(ours) < 0.7 * np.mean(least_squares)
    assert np.max(ours) < 0.5 * np.max(least_squares)


@pytest.mark.parametrize("count", range(FEWEST_PATIENTS))
def test_fewer_than_four_patients_give_no_line(count):
    with pytest.raises(ValueError, match="expected 4 or more"):
        fit_recalibration([0.8] * 2 * count, [0.8] * 2 * count, names(count, 2))


def test_lengths_have_to_agree():
    with pytest.raises(ValueError, match="equal lengths"):
        fit_recalibration([0.8] * 5, [0.8] * 4, names(5))
