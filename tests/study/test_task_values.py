"""Predicted and measured values of one task, and their means by hip."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.study.task_values import TaskValues
from bmdkit.training.run_layout import PairPrediction


def row(patient, side, pose, predicted, measured):
    name = f"{patient}__{pose}__{side}"
    return PairPrediction(
        name, patient, side, pose, 0, "test", dxa_bmd_g_cm2=measured, predicted_dxa_bmd_g_cm2=predicted
    )


def test_the_mean_of_a_hips_images_is_one_value_and_its_error_shrinks():
    """Errors of +-e about the truth, alternating by pose, are gone from the means."""
    measured = np.linspace(0.5, 1.1, 12)
    rows = [
        row(f"p{n}", side, pose, value + sign * 0.1, value)
        for n, value in enumerate(measured)
        for side in "LR"
        for pose, sign in (("standing", 1), ("supine", -1))
    ]
    values = TaskValues.of(rows, "dxa")
    averaged = values.averaged_by_hip()
    assert (len(values), len(averaged), len(set(averaged.hips))) == (48, 24, 24)
    np.testing.assert_allclose(averaged.predicted, np.repeat(measured, 2))
    np.testing.assert_allclose(averaged.measured, np.repeat(measured, 2))
    assert values.agreement().mae == pytest.approx(0.1)
    assert averaged.agreement().mae == pytest.approx(0.0, abs=1e-12)
    assert averaged.agreement().patients == 12
