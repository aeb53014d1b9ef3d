"""Features like those of training images are accepted, others are not; the distance is Mahalanobis'."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from bmdkit.evaluation.representation_plausibility import RepresentationPlausibility

RNG = np.random.default_rng(3)
MIXING = RNG.normal(size=(4, 30))
TRAINING = RNG.normal(size=(80, 4)) @ MIXING + 0.05 * RNG.normal(size=(80, 30)) + 2
PATIENTS = [f"p{n // 2}" for n in range(80)]


@pytest.fixture(scope="module")
def known():
    return RepresentationPlausibility.of(TRAINING, PATIENTS)


def test_new_images_of_the_same_kind_are_accepted_and_others_are_not(known):
    alike = RNG.normal(size=(200, 4)) @ MIXING + 0.05 * RNG.normal(size=(200, 30)) + 2
    assert np.mean([known.check(one)[0] == "accept" for one in alike]) > 0.9
    beyond = alike + 3 * RNG.normal(size=(200, 30))  # in directions that no training image knows
    far = 20 * RNG.normal(size=(200, 4)) @ MIXING + 2
    for strange in (beyond, far):
        assert np.mean([known.check(one)[0] == "reject" for one in strange]) > 0.9
        assert known.check(strange[0])[1]


def test_where_every_direction_is_known_it_is_mahalanobis():
    values = RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 3))
    names = [f"p{n}" for n in range(60)]
    known = RepresentationPlausibility.of(values, names)
    covariance = np.cov(values.T, bias=True)
    for one in values[:5]:
        distance = mahalanobis(one, values.mean(0), np.linalg.inv(covariance))
        assert known.strangeness(one) * known.largest == pytest.approx(
            distance / np.sqrt(4), rel=1e-9
        )  # 3 and the rest


def test_it_comes_back_from_its_file(known):
    again = RepresentationPlausibility.from_dict(json.loads(json.dumps(known.to_dict())))
    assert again.strangeness(TRAINING[0] + 1) == known.strangeness(TRAINING[0] + 1)
    with pytest.raises(ValueError, match="axes"):
        RepresentationPlausibility.from_dict(known.to_dict() | {"sd": [1.0]})


def test_two_patients_tell_nothing():
    with pytest.raises(ValueError, match="three patients"):
        RepresentationPlausibility.of(TRAINING[:4], PATIENTS[:4])
