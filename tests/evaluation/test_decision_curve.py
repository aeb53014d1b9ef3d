"""Decision curves: the formula by hand, probabilities from other patients, and what a perfect prediction gains."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from bmdkit.evaluation.decision_curve import measure_decisions, net_benefit, probabilities_below

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.9])
def test_net_benefit_is_that_of_the_confusion_matrix(threshold):
    probability, ill = RNG.random(200), RNG.random(200) < 0.3
    (_, false_positives), (_, true_positives) = confusion_matrix(ill, probability >= threshold)
    expected = (true_positives - false_positives * threshold / (1 - threshold)) / 200
    assert net_benefit(probability, ill, threshold) == pytest.approx(expected, abs=1e-12)


def test_net_benefit_counted_by_hand():
    """Of 1000, 290 are acted on, 65 rightly and 225 wrongly: at 20 % the odds are 1 to 4."""
    acted = np.r_[np.ones(290), np.zeros(710)]
    ill = np.r_[np.ones(65), np.zeros(225), np.ones(35), np.zeros(675)].astype(bool)
    assert net_benefit(acted, ill, 0.2) == pytest.approx(0.065 - 0.225 / 4)


def test_probabilities_are_the_share_of_other_patients_errors_patient_by_patient():
    patients = ["a", "a", "b", "c", "c", "c", "d"]
    predicted = np.array([1.0, 1.2, 0.8, 1.1, 0.7, 0.9, 1.3])
    errors = np.array([0.1, -0.2, 0.3, 0.0, -0.1, 0.2, -0.3])
    found = probabilities_below(predicted, errors, patients, 0.95)
    for n, who in enumerate(patients):
        others = sorted(set(patients) - {who})
        shares = [
            np.mean([predicted[n] - e <= 0.95 for e, p in zip(errors, patients, strict=True) if p == other])
            for other in others
        ]
        assert found[n] == pytest.approx(np.mean(shares), abs=1e-12)


def test_a_good_prediction_is_worth_more_than_acting_on_everybody_or_nobody():
    patients = [f"p{n // 2}" for n in range(60)]
    measured = np.repeat(RNG.normal(0.8, 0.15, 30), 2)
    points = measure_decisions(measured + RNG.normal(0, 0.02, 60), measured, patients, 0.7, rng=RNG, repeats=20)
    assert all(point.net_benefit >= max(point.treat_all, 0) - 1e-9 for point in points)
    assert points[0].treat_all > points[-1].treat_all
    assert all(low <= point.net_benefit + 0.05 and point.net_benefit - 0.05 <= high for point in points
               for low, high in [point.interval])  # fmt: skip
    with pytest.raises(ValueError, match="patients"):
        probabilities_below([1.0], [0.0], ["a"], 0.9)
