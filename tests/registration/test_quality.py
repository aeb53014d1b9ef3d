"""Verdicts: better evidence is never judged worse, and what must not pass does not."""

from dataclasses import replace

import pytest

from bmdkit.registration.quality import FITTED_ON, Evidence, describe_evidence, judge

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


def test_noise_excuses_a_low_similarity_but_not_any():
    noisy = replace(GOOD, similarity=0.8 * GOOD.similarity, attainable=0.8)
    assert noisy.probability_over_2mm == pytest.approx(GOOD.probability_over_2mm)
    assert replace(noisy, attainable=1.0).probability_over_2mm > noisy.probability_over_2mm
    blind = replace(GOOD, similarity=0.1, attainable=0.11)  # nothing but noise: a tenth is no match
    assert judge(blind) == "reject"
    assert replace(SMALL, attainable=0.6).probability_misleading == SMALL.probability_misleading


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
        "rotation_sd_deg",
        "spread_rotation_deg",
        "attainable",
        "probability_over_2mm",
        "probability_over_10mm",
    ]
    others = SMALL.to_dict()
    assert others["probability_misleading"] == SMALL.probability_misleading
    assert list(others)[-3:] == ["probability_misleading", "probability_lost", "probability_over_10mm"]


SMALL = replace(GOOD, similarity=0.85, scale=0.25, lead=0.5, rotation_sd_deg=0.4, depth_sd_mm=1.0)
"""Good evidence for a bone that is none of the hips."""


def test_another_bone_has_verdicts_of_its_own():
    assert judge(SMALL) == "accept"
    assert judge(replace(SMALL, rotation_sd_deg=2.0, lead=0.3)) == "review"
    assert judge(replace(SMALL, similarity=0.2, rotation_sd_deg=3.0, lead=0.0)) == "reject"
    assert judge(replace(SMALL, similarity=0.34)) == "reject"
    assert judge(replace(SMALL, similarity=0.36)) != "reject"
    assert SMALL.probability_lost < SMALL.probability_misleading < 0.1
    assert SMALL.probability_over_10mm < replace(SMALL, depth_sd_mm=10.0).probability_over_10mm


def test_depth_that_one_view_does_not_show_is_no_reason_against_another_bone():
    assert judge(replace(SMALL, depth_sd_mm=8.0, curvature_mm=4.0, spread_mm=6.0)) == "accept"
    assert judge(replace(SMALL, depth_sd_mm=8.0, curvature_mm=4.0, spread_mm=6.0, scale=1.0)) != "accept"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("similarity", [0.95, 0.8, 0.6, 0.3, 0.0, -1.0]),
        ("rotation_sd_deg", [0.0, 0.3, 0.6, 1.0, 5.0, 90.0]),
        ("lead", [1.0, 0.5, 0.2, 0.05, 0.0]),
        ("visible", [1.0, 0.6, 0.3, 0.0]),
        ("prior", [0.0, 2.0, 5.0, 50.0]),
    ],
)
def test_worse_evidence_of_another_bone_is_never_judged_better(name, values):
    verdicts = [ORDER.index(judge(replace(SMALL, **{name: value}))) for value in values]
    assert verdicts == sorted(verdicts)
    assert verdicts[-1] > 0


def test_features_are_parts_of_the_body():
    half = replace(SMALL, across_mm=0.2, spread_across_mm=0.4, curvature_mm=0.6, spread_mm=0.8)
    whole = replace(half, across_mm=0.4, spread_across_mm=0.8, curvature_mm=1.2, spread_mm=1.6, scale=0.5)
    assert describe_evidence(half) == pytest.approx(describe_evidence(whole))


def test_thresholds_hold_for_the_measure_of_their_fit():
    assert judge(GOOD, measure="ncc") == "review"
