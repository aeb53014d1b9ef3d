"""Image metrics by closed form."""

import numpy as np
import pytest

from bmdkit.evaluation import image_metrics


def test_psnr_of_a_constant_error():
    target = np.zeros((8, 4))
    assert image_metrics.psnr_db(target + 0.1, target, peak=1.0) == pytest.approx(20)
    assert image_metrics.psnr_db(target + 0.1, target, peak=10.0) == pytest.approx(40)
    assert image_metrics.psnr_db(target, target, peak=1.0) == float("inf")


def test_dice_of_half_overlapping_squares():
    a, b = np.zeros((4, 8)), np.zeros((4, 8))
    a[:, :4] = b[:, 2:6] = 1
    assert image_metrics.dice(a, b) == pytest.approx(0.5)
    assert image_metrics.multi_threshold_dice(a, b, maximum=1.0) == pytest.approx(0.5)
    assert image_metrics.dice(a * 0, b * 0) == 1


def test_multi_threshold_dice_averages_over_thresholds():
    target = np.full((1, 10), 0.2)
    predicted = np.full((1, 10), 0.125)  # above 10, 11, 12 % of the maximum, below 13, 14, 15 %
    assert image_metrics.multi_threshold_dice(predicted, target, maximum=1.0) == pytest.approx(0.5)


def test_mean_above_leaves_the_background_out():
    assert image_metrics.mean_above(np.array([0, 0, 0.5, 1.5]), 0.1) == pytest.approx(1.0)
    assert image_metrics.mean_above(np.zeros(3), 0.1) == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="equal shapes"):
        image_metrics.psnr_db(np.zeros((2, 3)), np.zeros((3, 2)), peak=1)
