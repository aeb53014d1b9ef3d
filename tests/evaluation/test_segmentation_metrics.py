"""Dice, surface distance and AUROC on what can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bmdkit.evaluation.segmentation_metrics import auroc, dice, surface_distance


def box(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((4, 20, 20), bool)
    mask[1:3, 5:15, start:stop] = True
    return mask


def test_dice():
    assert dice(box(5, 10), box(5, 10)) == 1
    assert dice(box(5, 10), box(10, 15)) == 0
    assert dice(box(5, 15), box(10, 15)) == pytest.approx(2 * 5 / 15)
    assert math.isnan(dice(box(5, 5), box(5, 5)))


def test_surface_distance_of_a_shift_along_the_thick_axis():
    one, other = np.zeros((12, 8, 8), bool), np.zeros((12, 8, 8), bool)
    one[4], other[6] = True, True  # two sheets, two slices apart
    found = surface_distance(one, other, np.array([1.0, 1.0, 2.5]))
    assert (found.mean_mm, found.p95_mm) == (5.0, 5.0)
    assert surface_distance(one, one, np.ones(3)).mean_mm == 0
    assert math.isnan(surface_distance(one, np.zeros_like(one), np.ones(3)).mean_mm)


def test_auroc():
    assert auroc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert auroc([4, 3, 2, 1], [False, False, True, True]) == 0
    assert auroc([1, 1, 1, 1], [False, True, False, True]) == 0.5
    assert math.isnan(auroc([1, 2], [False, False]))
