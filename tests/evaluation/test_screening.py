"""ROC, sensitivity, specificity, calibration and tertiles against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.evaluation.screening import calibrate_predictions, screen

EXACT = 1e-10


@pytest.fixture
def t_scores() -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    measured = rng.normal(-1.5, 1.2, 60)
    return measured + rng.normal(0, 0.5, 60), measured, [f"p{n // 2}" for n in range(60)]


def test_screening_is_that_of_scikit_learn(t_scores):
    metrics = pytest.importorskip("sklearn.metrics")
    predicted, measured, patients = t_scores
    found = screen("osteoporosis", predicted, measured, patients, rng=np.random.default_rng(0))
    truth, told = measured <= -2.5, predicted <= -2.5
    assert found.auroc == pytest.approx(metrics.roc_auc_score(truth, -predicted), abs=EXACT)
    assert found.sensitivity == pytest.approx(metrics.recall_score(truth, told), abs=EXACT)
    assert found.specificity == pytest.approx(metrics.recall_score(~truth, ~told), abs=EXACT)
    assert (found.images, found.patients, found.with_condition) == (60, 30, int(truth.sum()))
    for name in ("auroc", "sensitivity", "specificity"):
        low, high = getattr(found, f"{name}_interval")
        assert low <= getattr(found, name) <= high


def test_by_hand():
    """Four with low bone mass, three of them found; two without, one taken for it."""
    measured, predicted = [-1.0, -1.5, -2.0, -3.0, 0.0, -0.5], [-0.5, -1.0, -2.0, -3.0, 0.5, -1.2]
    found = screen("low bone mass", predicted, measured, list("abcdef"), rng=np.random.default_rng(0))
    assert (found.sensitivity, found.specificity) == (0.75, 0.5)


def test_where_nobody_has_it_there_is_no_curve():
    found = screen("osteoporosis", [0.1, 0.2], [0.0, 0.3], ["a", "b"], rng=np.random.default_rng(0))
    assert np.isnan([found.auroc, found.sensitivity]).all()
    assert found.specificity == 1.0


def test_calibration_finds_how_predictions_were_shrunk():
    """Predictions shrunk to half about 1: slope 2, intercept -1, and the lowest tertile is taken for too high."""
    measured = np.linspace(0.5, 1.5, 31)
    predicted = 1 + (measured - 1) / 2
    found = calibrate_predictions(predicted, measured, [f"p{n}" for n in range(31)], rng=np.random.default_rng(0))
    assert (found.slope, found.intercept) == pytest.approx((2, -1))
    assert found.slope_interval == pytest.approx((2, 2))
    assert found.tertile_bias[0] > 0.1 > abs(found.tertile_bias[1])
    assert found.tertile_bias[2] < -0.1
    same = calibrate_predictions([1.0] * 3, [1.0, 2.0, 3.0], list("abc"), rng=np.random.default_rng(0))
    assert same is None
