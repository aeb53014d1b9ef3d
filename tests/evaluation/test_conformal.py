"""Prediction intervals of new patients hold as often as they say, whatever the errors are like."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.evaluation.conformal import conformal_half_width, mean_by_patient, measure_coverage


def draw_errors(rng: np.random.Generator, patients: int, images: int) -> tuple[np.ndarray, list[str]]:
    """Errors with long tails that one patient's images share."""
    own = rng.standard_t(3, (patients, 1))
    errors = own + rng.normal(0, 0.3, (patients, images))
    return errors.ravel(), [f"p{n}" for n in range(patients) for _ in range(images)]


def test_one_image_each_is_plain_split_conformal():
    """The ceil(0.9 x 20) = 18th smallest of 19 absolute errors."""
    errors = np.random.default_rng(0).normal(size=19)
    half_width = conformal_half_width(errors, [f"p{n}" for n in range(19)], level=0.9)
    assert half_width == np.sort(np.abs(errors))[17]


def test_too_few_patients_for_the_level_have_no_interval():
    assert conformal_half_width([0.1] * 8, [f"p{n}" for n in range(8)], level=0.9) == np.inf
    assert conformal_half_width([0.1] * 80, ["p0"] * 80, level=0.9) == np.inf  # one patient, however many images


def test_images_of_a_patient_share_its_weight():
    """A patient with very many images does not set the interval of the others."""
    errors, patients = [9.0] * 1000 + [0.1] * 19, ["many"] * 1000 + [f"p{n}" for n in range(19)]
    assert conformal_half_width(errors, patients, level=0.9) == pytest.approx(0.1)


@pytest.mark.parametrize("images", [1, 8])
def test_intervals_of_ninety_percent_hold_for_ninety_percent(images, figure):
    """500 cohorts of 60 patients, tried on 20 new ones each: 90 +- 3 %."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(500):
        errors, patients = draw_errors(rng, 80, images)
        known = 60 * images
        half_width = conformal_half_width(errors[:known], patients[:known])
        held.append(np.mean(np.abs(errors[known:]) <= half_width))
    figure(f"coverage of 90 % intervals, {images} images a patient, %", 100 * float(np.mean(held)))
    assert np.mean(held) == pytest.approx(0.90, abs=0.03)


def test_coverage_is_measured_over_halves_of_the_patients():
    errors, patients = draw_errors(np.random.default_rng(2), 200, 4)
    found = measure_coverage(errors, patients, rng=np.random.default_rng(0))
    assert found.splits >= 20
    assert found.coverage == pytest.approx(0.90, abs=0.03)
    assert found.coverage_interval[0] < found.coverage < found.coverage_interval[1]
    assert found.half_width == conformal_half_width(errors, patients)


def test_coverage_needs_ten_patients_in_each_half():
    errors, patients = draw_errors(np.random.default_rng(3), 19, 4)
    assert measure_coverage(errors, patients, rng=np.random.default_rng(0)) is None


def test_means_weigh_patients_alike():
    assert mean_by_patient([1, 1, 1, 4], ["a", "a", "a", "b"]) == 2.5
