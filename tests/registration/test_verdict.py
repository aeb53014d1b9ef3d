"""Verdicts: better evidence is never judged worse, and what must not pass does not."""

import pytest

from bmdkit.registration.verdict import FITTED_ON, judge

GOOD = {"similarity": 0.9, "curvature_mm": 0.4, "spread_mm": 0.2, "prior": 0.5, "visible": 1.0, "mirrored": 0.0}
ORDER = ["accept", "review", "reject"]


def test_good_evidence_is_accepted():
    verdict, facts = judge(GOOD)
    assert verdict == "accept"
    assert facts["probability_over_10mm"] < facts["probability_over_2mm"] < 0.1
    assert "simulated" in FITTED_ON


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("similarity", [0.95, 0.8, 0.6, 0.3, 0.0, -1.0]),
        ("curvature_mm", [0.0, 0.3, 0.6, 1.0, 5.0, 1e3]),
        ("spread_mm", [0.0, 1.0, 10.0, 1e3]),
        ("visible", [1.0, 0.6, 0.3, 0.0]),
        ("prior", [0.0, 2.0, 5.0, 50.0]),
        ("mirrored", [0.0, 1.0]),
    ],
)
def test_worse_evidence_is_never_judged_better(name, values):
    verdicts = [ORDER.index(judge(GOOD | {name: value})[0]) for value in values]
    assert verdicts == sorted(verdicts)
    assert verdicts[-1] > 0


def test_a_mirrored_image_is_rejected():
    assert judge(GOOD | {"mirrored": 1.0})[0] == "reject"
