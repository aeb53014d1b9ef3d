"""The benchmark of anatomies that a network has not seen: what a line of eight hips is fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from unseen_anatomy import measure

    return measure


def rows(patients: int, slope: float = 0.5) -> list[dict]:
    """Both hips of each patient in two radiographs; the prediction is the truth on a line."""
    rng = np.random.default_rng(0)
    hips = [(f"p{n}", side, rng.uniform(0.5, 1.1)) for n in range(patients) for side in "LR"]
    return [
        {
            "patient_id": patient,
            "side": side,
            "pose": pose,
            "dxa_bmd_g_cm2": bmd,
            "predicted_g_cm2": (bmd - 0.1) / slope,
            "quality": "accept",
        }
        for patient, side, bmd in hips
        for pose in ("standing", "supine")
    ]


def test_eight_hips_are_those_of_four_patients_however_many_radiographs_show_them(measure) -> None:
    found = measure(rows(10), 8, np.random.default_rng(0))
    assert found["line_hips"] == 8
    assert found["patients"] == 6
    assert found["images"] == 24


def test_a_prediction_on_a_line_is_right_after_the_line(measure) -> None:
    found = measure(rows(10), 8, np.random.default_rng(0))
    assert found["pcc"] == pytest.approx(1.0)
    assert found["mae_after_line_g_cm2"] == pytest.approx(0.0, abs=1e-9)
    assert found["mae_as_told_g_cm2"] > 0.1
    assert found["mae_ratio"] == pytest.approx(0.0, abs=1e-9)
    assert found["mae_ratio"] < found["recalibrated_ratio"] < 1  # four patients do not halve what is told
