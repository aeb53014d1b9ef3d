"""Means of projections are above a threshold that each fold chooses: they are compared within folds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bmdkit.study.method_metrics import measure_images
from bmdkit.training.run_layout import PairPrediction


def rows(fold: int, predicted, target) -> list[PairPrediction]:
    about = {"l1_g_cm2": 0.1, "psnr_db": 30.0 + fold, "dice": 0.9}
    return [
        PairPrediction(
            f"f{fold}p{n}", f"f{fold}p{n}", "L", "standing", fold, "test",
            predicted_mean_g_cm2=float(p), target_mean_g_cm2=float(t), **about,
        )
        for n, (p, t) in enumerate(zip(predicted, target, strict=True))
    ]  # fmt: skip


def test_folds_of_other_thresholds_do_not_agree_because_their_levels_differ():
    rng = np.random.default_rng(0)
    unlike = [rows(fold, level + rng.normal(0, 0.1, 200), level + rng.normal(0, 0.1, 200)) for fold, level in
              enumerate((0.3, 0.9))]  # fmt: skip
    found = measure_images(unlike)
    assert abs(found.mean_pcc) < 0.2  # pooled, 0.9
    assert abs(found.mean_icc) < 0.2
    assert (found.images, found.patients, found.psnr_db) == (400, 400, 30.5)


def test_folds_count_by_their_images():
    x = np.linspace(0.4, 1.2, 10)
    found = measure_images([rows(0, x, x), rows(1, x[:5], x[:5][::-1])])
    assert found.mean_pcc == pytest.approx((10 * 1 - 5 * 1) / 15)


def test_agreement_of_few_patients_is_not_told():
    x = np.linspace(0.4, 1.2, 4)
    assert math.isnan(measure_images([rows(0, x, x), rows(1, x, x)]).mean_pcc)
