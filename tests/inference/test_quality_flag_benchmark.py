"""The benchmark of the quality flag: what is a large error, and what spoiling has moved."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import quality_flag

    return quality_flag


def test_large_errors_moved_predictions_and_ratings_are_counted_apart(module) -> None:
    errors = {"as it is": [0.1, 0.1, 0.3], "blur": [0.1, 0.5, 0.3]}  # the limit is 0.2
    told = {"as it is": [0.8, 0.8, 0.8], "blur": [0.8, 1.2, 0.8]}
    strange = {"as it is": [1.0, 1.0, 0.5], "blur": [2.0, float("inf"), 3.0]}
    unlike = {name: [9.0] for name in module.UNLIKE}
    quality = {"as it is": ["accept"] * 3, "blur": ["review", "reject", "reject"]}
    found = module.summarise(errors, told, strange | unlike, quality | {name: ["reject"] for name in unlike})
    assert found["large_error_g_cm2"] == pytest.approx(0.2)
    assert (found["as it is.large"], found["with spoilt.large"], found["moved.large"]) == (1, 3, 1)
    assert found["as it is.auroc"] == 0.0  # the one large error looks least strange
    assert found["with spoilt.auroc"] == pytest.approx(6 / 9)
    assert found["moved.auroc"] == 1.0
    assert found["knows.auroc"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert found["accept.large_share"] == pytest.approx(1 / 3)
    assert (found["review.large_share"], found["reject.large_share"]) == (0.0, 1.0)
    assert found["unlike.auroc"] == 1.0
