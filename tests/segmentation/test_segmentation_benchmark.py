"""What benchmarks/segmentation.py counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from bmdkit.segmentation.failures import SHIPPED
from bmdkit.segmentation.model import load_model
from bmdkit.segmentation.settings import PredictConfig


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import segmentation

    return segmentation


def row(dice: float, uncertainty: float, *, metal: bool = False) -> dict:
    return {"dice": dice, "uncertainty": uncertainty, "metal": metal}


def test_failures_that_pass_the_limit_of_a_model_are_counted(module):
    model = load_model(SHIPPED)
    known = model.failures
    low, high = known.threshold / 2, 2 * known.threshold
    rows = [
        row(0.95, low), row(0.96, low), row(0.97, low), row(0.95, high),
        row(0.80, low), row(0.80, low, metal=True), row(0.50, high), row(0.0, float("nan")),
    ]  # fmt: skip
    found = module.pass_limit(rows, model, PredictConfig())
    assert found["limit.most"] == known.threshold
    assert (found["limit.structures"], found["limit.failed"], found["limit.failed_accepted"]) == (8, 4, 2)
    assert found["limit.failed_accepted_without_metal"] == 1
    assert found["limit.kept_pct"] == pytest.approx(75.0)


def test_a_limit_of_other_weights_is_not_used(module):
    other = replace(load_model(SHIPPED), weights_sha256="0" * 64)
    assert module.pass_limit([row(0.95, 0.0)], other, PredictConfig()) == {}
