"""Tests of conditions within patients: published tables, independent libraries, false positives, power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bmdkit.evaluation.significance import (
    LEVEL,
    SPHERICITY_LEVEL,
    AnovaResult,
    check_sphericity,
    compare_by_tukey,
    compare_conditions,
    compare_pairs,
    correct_by_holm,
    detectable_difference,
    repeated_measures_anova,
    tabulate_conditions,
)

# Shrout and Fleiss 1979, Tables 2 and 3: between judges MS 32.49 (df 3), residual MS 1.02 (df 15)
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
NAMES = ["a", "b", "c", "d"]
EXACT = 1e-10


@pytest.fixture
def table() -> np.ndarray:
    """Twenty patients under four conditions, of unlike variances."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 1, (20, 1)) + rng.normal([0, 0.1, 0.2, 0], [0.2, 0.4, 0.6, 0.2], (20, 4))


def long_form(table: np.ndarray):
    pandas = pytest.importorskip("pandas")
    n, k = table.shape
    who, what = np.repeat(np.arange(n), k), np.tile(NAMES[:k], n)
    return pandas.DataFrame({"patient": who, "condition": what, "value": table.ravel()})


def test_anova_of_shrout_and_fleiss():
    result = repeated_measures_anova(SHROUT_FLEISS)
    assert (result.df_conditions, result.df_error) == (3, 15)
    assert result.f == pytest.approx(32.49 / 1.02, rel=0.005)
    assert result.mean_square_error == pytest.approx(1.02, abs=0.005)
    assert result.p < 1e-5
    assert 1 / 3 <= result.epsilon <= result.epsilon_used <= 1
    assert result.p_corrected >= result.p


def test_two_conditions_are_the_paired_t_test():
    rng = np.random.default_rng(0)
    two = rng.normal(size=(12, 1)) + rng.normal(0, 0.3, (12, 2)) + [0, 0.2]
    found, paired = compare_conditions(two, ["a", "b"]), stats.ttest_rel(two[:, 0], two[:, 1])
    assert found.anova.f == pytest.approx(paired.statistic**2, rel=EXACT)
    assert found.anova.epsilon == pytest.approx(1)
    assert found.procedure == "tukey"
    assert found.anova.p_corrected == pytest.approx(paired.pvalue, rel=EXACT)
    assert found.differences[0].p == pytest.approx(paired.pvalue, rel=1e-6)  # scipy integrates the studentised range
    low, high = paired.confidence_interval(0.95)
    assert (found.differences[0].lower, found.differences[0].upper) == pytest.approx((low, high), rel=1e-6)


def test_anova_is_that_of_statsmodels(table):
    anova = pytest.importorskip("statsmodels.stats.anova")
    theirs = anova.AnovaRM(long_form(table), "value", "patient", within=["condition"]).fit().anova_table
    ours = repeated_measures_anova(table)
    assert ours.f == pytest.approx(theirs["F Value"].iloc[0], rel=EXACT)
    assert ours.p == pytest.approx(theirs["Pr > F"].iloc[0], rel=EXACT)


def test_sphericity_and_epsilon_are_those_of_pingouin(table):
    pingouin = pytest.importorskip("pingouin")
    frame = long_form(table)
    theirs = pingouin.epsilon(frame, dv="value", within="condition", subject="patient", correction="gg")
    ours = repeated_measures_anova(table)
    assert ours.epsilon == pytest.approx(theirs, rel=EXACT)
    assert ours.epsilon_used == ours.epsilon  # sphericity is rejected here
    theirs = pingouin.sphericity(frame, dv="value", within="condition", subject="patient")
    assert check_sphericity(table) == pytest.approx(theirs.pval, rel=EXACT)


def test_epsilon_of_even_conditions_is_that_of_huynh_and_feldt_as_pingouin_has_it():
    pingouin = pytest.importorskip("pingouin")
    even = np.random.default_rng(4).normal(size=(12, 4))
    theirs = pingouin.epsilon(long_form(even), dv="value", within="condition", subject="patient", correction="hf")
    assert check_sphericity(even) >= SPHERICITY_LEVEL
    assert repeated_measures_anova(even).epsilon_used == pytest.approx(theirs, rel=EXACT)


def test_paired_tests_are_those_of_scipy_with_holm_of_statsmodels(table):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    found = compare_pairs(table, NAMES)
    plain = [stats.ttest_rel(table[:, NAMES.index(d.first)], table[:, NAMES.index(d.second)]) for d in found]
    expected = multitest.multipletests([one.pvalue for one in plain], method="holm")[1]
    assert [d.p for d in found] == pytest.approx(expected, rel=EXACT)
    low, _ = plain[0].confidence_interval(1 - LEVEL / 6)
    assert found[0].lower == pytest.approx(low, rel=EXACT)


def test_holm_by_hand():
    assert correct_by_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert correct_by_holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])


def test_tukey_uses_the_residual_within_patients():
    """Against its definition; scipy's own test takes the conditions for independent and sees nothing here."""
    rng = np.random.default_rng(3)
    values = rng.normal(0.9, 0.15, (60, 1)) + rng.normal(0, 0.02, (60, 4)) + [0, 0, 0, 0.03]
    found = {(d.first, d.second): d for d in compare_by_tukey(values, NAMES)}
    anova = repeated_measures_anova(values)
    q = abs(found["a", "d"].difference) / np.sqrt(anova.mean_square_error / 60)
    assert found["a", "d"].p == pytest.approx(stats.studentized_range.sf(q, 4, 177), abs=EXACT)
    assert found["a", "d"].p < 1e-6 < 0.05 < found["a", "b"].p
    assert found["a", "d"].lower < -0.03 < found["a", "d"].upper < 0
    assert stats.tukey_hsd(*values.T).pvalue.min() > 0.05


def test_conditions_of_unlike_spread_are_compared_by_paired_tests(table):
    rng = np.random.default_rng(1)
    even = rng.normal(size=(60, 4))
    uneven = even * [1, 1, 1, 6]
    assert compare_conditions(even, NAMES).procedure == "tukey"
    assert compare_conditions(uneven, NAMES).procedure == "paired_holm"


def false_positives(covariance: np.ndarray, n: int, repeats: int, test) -> float:
    rng = np.random.default_rng(7)
    root = np.linalg.cholesky(covariance)
    tables = rng.normal(0, 2, (repeats, n, 1)) + rng.normal(size=(repeats, n, len(covariance))) @ root.T
    return float(np.mean([test(one) for one in tables]))


def anova_rejects(values: np.ndarray) -> bool:
    return repeated_measures_anova(values).p_corrected < LEVEL


@pytest.mark.parametrize("n", [12, 40])
@pytest.mark.parametrize("spread", [(1, 1, 1, 1), (1, 2, 3, 0.5)], ids=["even", "uneven"])
def test_false_positives_of_the_anova_are_five_percent(n, spread, figure):
    """Under no difference; 6000 draws have a standard error of 0.3 percent points."""
    rate = false_positives(np.diag(np.square(spread)).astype(float), n, 6000, anova_rejects)
    figure(f"false positives of the ANOVA, {n} patients, {spread}, %", 100 * rate)
    assert rate == pytest.approx(0.05, abs=0.01)


def test_false_positives_of_tukey_are_five_percent(figure):
    """The chance that any of six pairs is found: the widest difference over the critical one."""
    n, k = 20, 4
    critical = stats.studentized_range.ppf(1 - LEVEL, k, (n - 1) * (k - 1))

    def rejects(values: np.ndarray) -> bool:
        error = repeated_measures_anova(values).mean_square_error
        return np.ptp(values.mean(0)) / np.sqrt(error / n) > critical

    rate = false_positives(np.eye(k), n, 6000, rejects)
    figure("false positives of Tukey within patients, %", 100 * rate)
    assert rate == pytest.approx(0.05, abs=0.01)


def test_holm_never_finds_more_than_five_percent_by_chance(figure):
    """Holm's correction keeps the chance of any false finding below the level; correlated pairs make it less."""
    uneven = np.diag([1.0, 4.0, 9.0, 0.25])
    rate = false_positives(uneven, 20, 3000, lambda v: min(d.p for d in compare_pairs(v, NAMES)) < LEVEL)
    figure("false positives of paired tests with Holm, %", 100 * rate)
    assert 0.02 < rate < 0.05 + 0.012  # 3 standard errors of 3000 draws


@pytest.mark.parametrize(("k", "n"), [(2, 20), (4, 30)])
def test_the_detectable_difference_is_found_with_the_stated_power(k, n, figure):
    """4000 draws have a standard error of 0.6 percent points."""
    sd = 0.04
    anova = AnovaResult(1.0, k - 1, (n - 1) * (k - 1), 0.5, 1.0, 1.0, 0.5, sd**2)
    found = detectable_difference(anova, n)
    shift = np.zeros(k)
    shift[:2] = found / 2, -found / 2
    rng = np.random.default_rng(0)
    tables = rng.normal(0, 0.1, (4000, n, 1)) + shift + rng.normal(0, sd, (4000, n, k))
    power = np.mean([anova_rejects(one) for one in tables])
    figure(f"power at the detectable difference, {k} conditions, %", 100 * power)
    assert power == pytest.approx(0.80, abs=0.03)


def test_only_patients_of_every_condition_are_in_the_table():
    found, patients, conditions = tabulate_conditions(
        [1, 2, 3, 5, 9], ["x", "x", "x", "x", "y"], ["sit", "stand", "sit", "stand", "sit"]
    )
    assert (patients, conditions) == (("x",), ("sit", "stand"))
    assert found.tolist() == [[2.0, 3.5]]


def test_tables_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="table"):
        compare_conditions([[1.0, 2.0]], ["a", "b"])
    with pytest.raises(ValueError, match="names"):
        compare_conditions([[1.0, 2.0], [2.0, 3.0]], ["a"])
