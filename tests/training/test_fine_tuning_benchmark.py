"""The benchmark of fine-tuning: which patients are learnt from, and what they are to be read as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bmdkit.training.run_layout import PairPrediction


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import fine_tuning

    return fine_tuning


def test_only_held_out_patients_are_measured_and_the_mean_is_of_the_others(module) -> None:
    row = PairPrediction("a", "a", "L", "standing", 0, "test")
    held = [
        replace(row, pair_id=str(n), patient_id=str(n), dxa_bmd_g_cm2=bmd, predicted_dxa_bmd_g_cm2=bmd + 0.1)
        for n, bmd in enumerate((0.6, 0.8, 1.0))
    ]
    learnt = replace(row, split="train", dxa_bmd_g_cm2=0.5, predicted_dxa_bmd_g_cm2=9.0)
    found = module.measure([*held, learnt], np.random.default_rng(0))
    assert found["pcc"] == pytest.approx(1.0)
    assert found["mae_g_cm2"] == pytest.approx(0.1)
    assert found["mae_ratio"] == pytest.approx(0.1 / 0.3)
