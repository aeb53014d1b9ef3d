"""Statistics over poses against published tables, scipy's tests and closed forms."""

import numpy as np
import pytest
from scipy import stats

from bmdkit.evaluation.agreement import bland_altman
from bmdkit.evaluation.repeatability import by_condition, case_outliers, consistency, repeated_measures_anova, tukey_hsd

# Shrout and Fleiss 1979, Tables 2 and 3: between judges MS 32.49 (df 3), residual MS 1.02 (df 15)
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_anova_of_shrout_and_fleiss():
    result = repeated_measures_anova(SHROUT_FLEISS)
    assert (result.df_conditions, result.df_error) == (3, 15)
    assert result.f == pytest.approx(32.49 / 1.02, rel=0.005)
    assert result.p < 1e-5
    assert 1 / 3 <= result.epsilon <= 1
    assert result.p_corrected >= result.p


def test_anova_of_two_conditions_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(12, 1)) + rng.normal(0, 0.3, (12, 2)) + [0, 0.2]
    result, paired = repeated_measures_anova(table), stats.ttest_rel(table[:, 0], table[:, 1])
    assert result.f == pytest.approx(paired.statistic**2)
    assert result.p == pytest.approx(paired.pvalue)
    assert result.epsilon == pytest.approx(1)


def test_tukey_finds_the_group_that_differs():
    rng = np.random.default_rng(1)
    groups = {name: rng.normal(level, 1, 40) for name, level in (("a", 0), ("b", 0), ("c", 2))}
    found = {(d.first, d.second): d for d in tukey_hsd(groups)}
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found["a", "b"].p > 0.05
    assert found["b", "c"].p < 0.001
    assert found["a", "c"].lower < found["a", "c"].difference < found["a", "c"].upper < 0
    with pytest.raises(ValueError, match="two or more"):
        tukey_hsd({"a": [1.0, 2.0], "b": [1.0]})


def test_only_subjects_of_every_condition_are_in_the_table():
    table, subjects, conditions = by_condition(
        [1, 2, 3, 5, 9], ["x", "x", "x", "x", "y"], ["sit", "stand", "sit", "stand", "sit"]
    )
    assert (subjects, conditions) == (("x",), ("sit", "stand"))
    assert table.tolist() == [[2.0, 3.5]]


def test_consistency_is_a_correlation_matrix():
    table = np.array([[1, 2, -1], [2, 4, -2], [3, 6, -3.0]])
    assert consistency(table) == pytest.approx(np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]]))


def test_an_outlier_case_lies_outside_with_every_pose():
    measured = np.zeros(42)
    predicted = np.r_[np.tile([0.1, -0.1], 19), 5.0, 5.0, 5.0, 0.0]  # p19 twice, p20 once
    patients = [f"p{i // 2:02d}" for i in range(42)]
    assert case_outliers(bland_altman(predicted, measured), patients) == ("p19",)
