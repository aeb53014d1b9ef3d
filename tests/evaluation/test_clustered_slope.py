"""A slope tested with the patient as the unit: closed forms, an independent library, false positives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bmdkit.evaluation.clustered_slope import fit_clustered_slope

EXACT = 1e-10


def test_two_groups_of_patients_are_students_t_of_their_means():
    """With an x that is the patient's own, equal groups and equal counts, only the patients' means can matter."""
    rng = np.random.default_rng(0)
    patients, x = np.repeat(np.arange(12), 4), np.repeat([0.0, 10.0], 24)
    y = rng.normal(0.0, 1.0, 12)[patients] + rng.normal(0, 0.3, 48) + 0.1 * x
    found = fit_clustered_slope(x, y, [f"p{n}" for n in patients])
    means = y.reshape(12, 4).mean(1)
    expected = stats.ttest_ind(means[6:], means[:6])
    assert found.slope == pytest.approx((means[6:].mean() - means[:6].mean()) / 10, rel=EXACT)
    assert found.degrees == pytest.approx(10, rel=EXACT)
    assert found.p == pytest.approx(expected.pvalue, rel=EXACT)


def test_one_image_a_patient_has_the_error_of_hc2_in_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(1)
    x = rng.normal(20, 5, 30)
    y = 0.7 + 0.01 * x + rng.normal(0, 0.05, 30) * (1 + abs(x - 20))
    found = fit_clustered_slope(x, y, [str(n) for n in range(30)])
    theirs = api.OLS(y, api.add_constant(x)).fit(cov_type="HC2")
    assert (found.intercept, found.slope) == pytest.approx(theirs.params, rel=EXACT)
    assert found.standard_error == pytest.approx(theirs.bse[1], rel=EXACT)


def test_the_unit_of_the_angle_does_not_matter():
    rng = np.random.default_rng(2)
    x, y, who = rng.normal(5, 8, 40), rng.normal(0, 0.1, 40), [f"p{n % 10}" for n in range(40)]
    degrees, radians = fit_clustered_slope(x, y, who), fit_clustered_slope(np.radians(x), 1000 * y, who)
    assert radians.p == pytest.approx(degrees.p, rel=1e-9)
    assert radians.slope == pytest.approx(1000 * np.degrees(degrees.slope), rel=1e-9)


def test_it_is_cr2_by_its_definition():
    """Bell and McCaffrey's matrices written out: unlike numbers of images, and an x that differs within patients."""
    rng = np.random.default_rng(5)
    who = np.repeat(np.arange(9), [1, 2, 3, 4, 5, 4, 3, 2, 4])
    x, y = rng.normal(10, 4, who.size), rng.normal(0, 1, 9)[who] + rng.normal(0, 0.5, who.size)
    design = np.c_[np.ones(who.size), x]
    hat = np.linalg.solve(design.T @ design, design.T)
    keep = np.eye(who.size) - design @ hat
    variance, columns = 0.0, []
    for one in range(9):
        mine = who == one
        spread, axes = np.linalg.eigh(keep[np.ix_(mine, mine)])
        pull = axes @ np.diag(spread**-0.5) @ axes.T @ hat[1, mine]
        variance += float(pull @ (keep @ y)[mine]) ** 2
        columns.append(keep[:, mine] @ pull)
    shares = np.linalg.eigvalsh(np.array(columns) @ np.array(columns).T)
    found = fit_clustered_slope(x, y, who)
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=EXACT)
    assert found.degrees == pytest.approx(shares.sum() ** 2 / np.sum(shares**2), rel=EXACT)


def test_the_same_images_twice_make_a_slope_no_surer():
    rng = np.random.default_rng(3)
    x, y, who = rng.normal(size=24), rng.normal(size=24), [f"p{n}" for n in range(24)]
    once, twice = fit_clustered_slope(x, y, who), fit_clustered_slope([*x, *x], [*y, *y], [*who, *who])
    assert (twice.p, twice.standard_error) == pytest.approx((once.p, once.standard_error), rel=1e-9)


@pytest.mark.parametrize("patients", [12, 60])
@pytest.mark.parametrize("own", [0.2, 0.8], ids=["angle of the pose", "angle of the patient"])
def test_false_positives_are_five_percent(patients, own, figure):
    """Without a slope, four images a patient, errors alike within patients; 4000 draws each."""
    rng = np.random.default_rng(7)
    who = np.repeat(np.arange(patients), 4)

    def draw(share: float) -> np.ndarray:
        return np.sqrt(share) * rng.normal(size=patients)[who] + np.sqrt(1 - share) * rng.normal(size=len(who))

    drawn = [(draw(own), draw(0.8)) for _ in range(4000)]
    rate = np.mean([fit_clustered_slope(x, y, who).p < 0.05 for x, y in drawn])
    naive = np.mean([stats.linregress(x, y).pvalue < 0.05 for x, y in drawn[:500]])
    figure(f"false positives of a slope, {patients} patients, {own:.0%} of the angle the patient's own, %", 100 * rate)
    assert rate == pytest.approx(0.05, abs=0.01)
    assert naive > rate + 0.02


def test_what_cannot_be_told_is_not_told():
    assert np.isnan(fit_clustered_slope([4, 4, 4], [1, 2, 3], "abc").p)
    alone = fit_clustered_slope([1, 2, 3, 5], [1, 2, 3, 4], "aaaa")  # one patient has no spread between patients
    assert np.isfinite(alone.slope)
    assert np.isnan([alone.standard_error, alone.p]).all()
    with pytest.raises(ValueError, match="finite"):
        fit_clustered_slope([1, 2, np.nan], [1, 2, 3], "abc")
    with pytest.raises(ValueError, match="two or more"):
        fit_clustered_slope([1, 2, 3], [1, 2, 3], "ab")
