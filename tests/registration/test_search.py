"""CMA-ES: finds a minimum, keeps to its own generator, and survives costs that are not numbers."""

import numpy as np

from bmdkit.registration.search import minimise

TARGET = np.array([0.7, -0.4, 0.2])
SETTINGS = {"sigma": 0.5, "population": 10, "evaluations": 600}


def bowl(points):
    return (((points - TARGET) * (1, 3, 10)) ** 2).sum(1)


def test_finds_the_minimum_of_a_bowl():
    found = minimise(bowl, np.zeros(3), rng=np.random.default_rng(0), **SETTINGS)
    assert np.allclose(found.values, TARGET, atol=0.02)
    assert found.cost < found.cost_at_start
    assert list(found.trace) == sorted(found.trace, reverse=True)


def test_same_generator_same_result_and_the_global_one_is_left_alone():
    np.random.seed(11)  # noqa: NPY002 - it is the global generator that is watched here
    expected = np.random.RandomState(11).random_sample()
    runs = [minimise(bowl, np.zeros(3), rng=np.random.default_rng(4), **SETTINGS) for _ in range(2)]
    assert np.random.random_sample() == expected  # noqa: NPY002
    assert np.array_equal(runs[0].values, runs[1].values)
    assert runs[0].trace == runs[1].trace


def test_costs_that_are_not_numbers_count_as_bad():
    def holed(points):
        return np.where(points[:, 0] > 0.5, np.nan, bowl(points))

    found = minimise(holed, np.zeros(3), rng=np.random.default_rng(0), **SETTINGS)
    assert np.isfinite(found.cost)
    assert found.values[0] <= 0.5


def test_never_worse_than_the_start():
    found = minimise(bowl, TARGET, rng=np.random.default_rng(0), sigma=5.0, population=4, evaluations=8)
    assert np.array_equal(found.values, TARGET)
    assert found.cost == 0
