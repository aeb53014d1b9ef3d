"""Verdicts: better evidence is never judged worse, and what must not pass does not."""

from dataclasses import replace

import pytest

from bmdkit.registration.quality import FITTED_ON, Evidence, judge

GOOD = Evidence(similarity=0.9, spread_mm=0.2, curvature_mm=0.4, prior=0.5, visible=1.0)
ORDER = ["accept", "review", "reject"]


def test_good_evidence_is_accepted():
    assert judge(GOOD) == "accept"
    assert GOOD.probability_over_10mm < GOOD.probability_over_2mm < 0.1
    assert "simulated" in FITTED_ON


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("similarity", [0.95, 0.8, 0.6, 0.3, 0.0, -1.0]),
        ("curvature_mm", [0.0, 0.3, 0.6, 1.0, 5.0, 1e3]),
        ("spread_mm", [0.0, 1.0, 10.0, 1e3]),
        ("visible", [1.0, 0.6, 0.3, 0.0]),
        ("prior", [0.0, 2.0, 5.0, 50.0]),
        ("mirrored", [False, True]),
    ],
)
def test_worse_evidence_is_never_judged_better(name, values):
    verdicts = [ORDER.index(judge(replace(GOOD, **{name: value}))) for value in values]
    assert verdicts == sorted(verdicts)
    assert verdicts[-1] > 0


def test_a_mirrored_image_is_rejected():
    assert judge(replace(GOOD, mirrored=True)) == "reject"


def test_evidence_is_written_as_plain_numbers():
    facts = replace(GOOD, mirrored=True).to_dict()
    assert facts["mirrored"] == 1.0
    assert facts["probability_over_2mm"] == GOOD.probability_over_2mm
    assert list(facts) == [
        "similarity",
        "spread_mm",
        "curvature_mm",
        "prior",
        "visible",
        "mirrored",
        "scale",
        "depth_sd_mm",
        "across_mm",
        "spread_across_mm",
        "lead",
        "probability_over_2mm",
        "probability_over_10mm",
    ]


def test_lengths_are_judged_as_parts_of_the_body():
    small = replace(GOOD, spread_mm=GOOD.spread_mm / 4, curvature_mm=GOOD.curvature_mm / 4, scale=0.25)
    assert small.probability_over_2mm == pytest.approx(GOOD.probability_over_2mm)
    assert judge(replace(GOOD, scale=0.05)) != "accept"  # the same millimetres on a far smaller bone


def test_thresholds_hold_for_the_measure_of_their_fit():
    assert judge(GOOD, measure="ncc") == "review"
