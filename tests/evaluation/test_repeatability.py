"""Precision, consistency and outliers over poses against closed forms and simulation."""

import numpy as np
import pytest

from bmdkit.evaluation.agreement import bland_altman, rms_cv_pct
from bmdkit.evaluation.repeatability import LSC_FACTOR, case_outliers, consistency, measure_precision


def test_consistency_is_a_correlation_matrix():
    table = np.array([[1, 2, -1], [2, 4, -2], [3, 6, -3.0]])
    assert consistency(table) == pytest.approx(np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]]))


def test_an_outlier_case_lies_outside_with_every_pose():
    measured = np.zeros(42)
    predicted = np.r_[np.tile([0.1, -0.1], 19), 5.0, 5.0, 5.0, 0.0]  # p19 twice, p20 once
    patients = [f"p{i // 2:02d}" for i in range(42)]
    assert case_outliers(bland_altman(predicted, measured), patients) == ("p19",)


def test_precision_of_repeats_and_least_significant_change():
    """Two hips, by hand: variances 0.0002 and 0.0008; a hip measured once says nothing."""
    values, hips = [1.00, 1.02, 0.80, 0.84, 0.5], ["a", "a", "b", "b", "c"]
    found = measure_precision(values, hips)
    assert (found.hips, found.degrees) == (2, 2)
    assert found.rms_sd == pytest.approx(np.sqrt((0.0002 + 0.0008) / 2))
    assert found.lsc == pytest.approx(2.77 * found.rms_sd)
    cv = np.array([np.sqrt(0.0002) / 1.01, np.sqrt(0.0008) / 0.82])
    assert found.mean_cv_pct == pytest.approx(100 * cv.mean())
    assert found.sd_cv_pct == pytest.approx(100 * cv.std(ddof=1))
    assert found.rms_cv_pct == pytest.approx(rms_cv_pct(values, hips))
    assert measure_precision([1.0, 2.0], ["a", "b"]) is None


def test_hips_with_more_repeats_count_more():
    """The pooled variance weighs each hip by its degrees of freedom (Glueer 1995)."""
    found = measure_precision([1, 3, 1, 2, 3, 2, 2], ["a"] * 2 + ["b"] * 5)
    assert found.rms_sd == pytest.approx(np.sqrt((1 * 2.0 + 4 * 0.5) / 5))


def test_the_interval_of_precision_covers_what_it_says():
    """30 degrees of freedom, 4000 times: the true standard deviation lies within 95 % of the intervals."""
    rng = np.random.default_rng(0)
    hips = [f"h{n // 3}" for n in range(45)]
    inside = 0
    for _ in range(4000):
        low, high = measure_precision(1 + rng.normal(0, 0.02, 45), hips).rms_sd_interval
        inside += low <= 0.02 <= high
    assert inside / 4000 == pytest.approx(0.95, abs=0.012)  # 3 standard errors of 4000 draws


def test_a_change_beyond_the_least_significant_one_is_rare_by_chance():
    """Two measurements of one unchanged hip differ by more than 2.77 standard deviations in 5 % of cases."""
    pairs = np.random.default_rng(1).normal(0, 1, (40000, 2))
    assert np.mean(np.abs(pairs[:, 0] - pairs[:, 1]) > LSC_FACTOR) == pytest.approx(0.05, abs=0.004)
