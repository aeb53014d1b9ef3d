"""Distances of features from those of a training set."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bmdkit.evaluation.familiarity import ACCEPTED_SHARE, Familiarity

RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=(5, 12)) + 0.1
"""Features of an image follow from five hidden numbers."""


def draw(n: int) -> np.ndarray:
    return RNG.normal(size=(n, 5)) @ MIXED + 0.05 * RNG.normal(size=(n, 12)) + 3.0


KNOWN = Familiarity.of(draw(400), draw(400))


def test_others_of_the_same_kind_are_accepted_as_often_as_is_said() -> None:
    accepted = np.mean([KNOWN.check(row)[0] == "accept" for row in draw(2000)])
    assert accepted == pytest.approx(ACCEPTED_SHARE, abs=0.02)


def test_what_breaks_the_correlation_is_rejected_though_each_feature_is_usual() -> None:
    usual = draw(200)
    broken = np.stack([RNG.permutation(column) for column in usual.T], axis=1)
    found = [KNOWN.check(row)[0] for row in broken]
    assert np.mean([one == "reject" for one in found]) > 0.95


def test_the_distance_does_not_depend_on_the_units_of_a_feature() -> None:
    scale = 10.0 ** RNG.integers(-3, 4, 12)
    train, others, one = draw(100), draw(100), draw(1)[0]
    assert Familiarity.of(train * scale, others * scale).strangeness(one * scale) == pytest.approx(
        Familiarity.of(train, others).strangeness(one), rel=1e-6
    )


def test_a_feature_that_is_constant_in_training_tells_when_it_changes() -> None:
    train = np.c_[draw(100), np.ones(100)]
    known = Familiarity.of(train, train)
    same, other = np.r_[train[:, :12].mean(0), 1.0], np.r_[train[:, :12].mean(0), 2.0]
    assert known.check(same)[0] == "accept"
    assert known.check(other)[0] == "reject"


def test_few_images_give_few_directions_and_a_finite_distance() -> None:
    known = Familiarity.of(draw(8), draw(8))
    assert known.directions.shape[1] == 2
    assert np.isfinite(known.distance(draw(1)[0]))


def test_it_is_known_again_after_being_stored() -> None:
    again = Familiarity.from_dict(json.loads(json.dumps(KNOWN.to_dict())))
    for row in draw(20):
        assert again.strangeness(row) == pytest.approx(KNOWN.strangeness(row), rel=1e-4)
