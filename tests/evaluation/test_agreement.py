"""Agreement metrics against published tables and closed forms."""

import numpy as np
import pytest

from bmdkit.evaluation import agreement as ag

# Shrout and Fleiss 1979, Table 2: six targets rated by four judges.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
# Bland and Altman 1986, Table 1: peak expiratory flow of 17 people, first readings, l/min.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# NIST, Statistical Reference Datasets, linear regression "Norris": ozone monitors against a standard, as y, x.
NORRIS = """0.1 0.2 338.8 337.4 118.1 118.2 888.0 884.6 9.2 10.1 228.1 226.5 668.5 666.3 998.5 996.3 449.1 448.6
778.9 777.0 559.2 558.2 0.3 0.4 0.1 0.6 778.1 775.5 668.8 666.9 339.3 338.0 448.9 447.5 10.8 11.6
557.7 556.0 228.3 228.1 998.0 995.8 888.8 887.6 119.6 120.2 0.3 0.3 0.6 0.3 557.6 556.8 339.3 339.1
888.0 887.2 998.5 999.0 778.9 779.0 10.2 11.1 117.6 118.3 228.9 229.2 668.4 669.1 449.2 448.9 0.2
0.5"""


def test_icc_2_1_is_that_of_shrout_and_fleiss():
    assert ag.icc_2_1(SHROUT_FLEISS) == pytest.approx(0.29, abs=0.005)  # Table 4


def test_icc_punishes_an_offset_and_the_correlation_does_not():
    measured = np.linspace(0.5, 1.2, 20)
    assert ag.pearson(measured + 0.2, measured) == pytest.approx(1)
    assert ag.icc_2_1(np.c_[measured + 0.2, measured]) < 0.75
    assert ag.icc_2_1(np.c_[measured, measured]) == pytest.approx(1)


def test_bland_altman_on_peak_flow():
    result = ag.bland_altman(WRIGHT, MINI, width_sd=2)
    assert result.bias == pytest.approx(-2.1, abs=0.05)
    assert result.sd == pytest.approx(38.8, abs=0.05)
    assert (result.lower, result.upper) == pytest.approx((-79.7, 75.5), abs=0.1)
    assert np.flatnonzero(result.outliers).tolist() == [14]  # 178 against 259 l/min
    assert ag.pearson(WRIGHT, MINI) == pytest.approx(0.94, abs=0.005)


def test_fisher_icc_of_two_pairs_by_hand():
    # m = 2.5, pooled variance 1.25, products (-1.5)(-0.5) + (0.5)(1.5) = 1.5 over n = 2
    assert ag.icc_fisher([1, 3], [2, 4]) == pytest.approx(0.75 / 1.25)


def test_errors_by_hand():
    predicted, measured = [1.0, 2.0, 4.0, 3.0], [1.0, 3.0, 2.0, 3.0]
    assert ag.mean_absolute_error(predicted, measured) == pytest.approx(0.75)
    assert ag.standard_error_of_estimate(predicted, measured) == pytest.approx(np.sqrt(5 / 2))


def test_see_is_the_residual_deviation_that_nist_certifies():
    y, x = np.array(NORRIS.split(), float).reshape(-1, 2).T
    predicted = -0.262323073774029 + 1.00211681802045 * x  # the certified line
    assert ag.standard_error_of_estimate(predicted, y) == pytest.approx(0.884796396144373, rel=1e-12)


def test_rms_cv_by_hand_and_without_repeats():
    values = [9, 11, 100, 100, 5]  # cv: sqrt(2)/10, 0, left out
    assert ag.rms_cv_pct(values, ["a", "a", "b", "b", "c"]) == pytest.approx(100 * np.sqrt(0.02 / 2))
    assert np.isnan(ag.rms_cv_pct([1, 2], ["a", "b"]))
    assert np.isnan(ag.rms_cv_pct([-1, 1, 9, 11], ["a", "a", "b", "b"]))  # a hip in which no bone was seen


def test_constant_values_have_no_correlation():
    assert np.isnan(ag.pearson([1, 1, 1], [1, 2, 3]))
    assert np.isnan(ag.pearson([1], [2]))
    assert np.isnan(ag.icc_fisher([1, 1], [1, 1]))
    with pytest.raises(ValueError, match="finite"):
        ag.pearson([1, np.nan], [1, 2])


def test_bootstrap_covers_the_truth_and_draws_whole_patients():
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(30), 4)
    level = rng.normal(size=30)[patients]  # the same value for the four images of a patient
    low, high = ag.bootstrap_interval(np.mean, level, patients=patients, rng=np.random.default_rng(0))
    assert low < level.mean() < high
    # the standard error of 30 patients, not of 120 images
    assert (high - low) / 3.92 == pytest.approx(level[::4].std() / np.sqrt(30), rel=0.1)
    again = ag.bootstrap_interval(np.mean, level, patients=patients, rng=np.random.default_rng(0))
    assert again == (low, high)
    assert np.isnan(ag.bootstrap_interval(np.mean, [1.0, 2.0], patients=["a", "a"], rng=rng)).all()


def test_agreement_gathers_everything():
    measured = np.repeat(np.linspace(0.6, 1.1, 10), 2)
    predicted = measured + np.tile([0.01, -0.01], 10)
    names = [f"p{i // 2}" for i in range(20)]
    found = ag.agreement(predicted, measured, patients=names, hips=names, rng=np.random.default_rng(0), repeats=200)
    assert (found.n, found.patients) == (20, 10)
    assert found.mae == pytest.approx(0.01)
    assert found.pcc_interval[0] <= found.pcc <= found.pcc_interval[1]
    assert 1 < found.rms_cv_pct < 2.5
