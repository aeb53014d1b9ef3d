"""A network that has learnt nothing is told from one that has."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.training.run_layout import PairPrediction
from bmdkit.training.weakness import describe_weaknesses, find_weaknesses

MEASURED = (0.6, 0.7, 0.8, 0.9, 1.0)


def rows(predicted, split="test", measured=MEASURED):
    return [
        PairPrediction(f"p{n}", f"p{n}", "L", "supine", 0, split, dxa_bmd_g_cm2=m, predicted_dxa_bmd_g_cm2=p)
        for n, (p, m) in enumerate(zip(predicted, measured, strict=True))
    ]


TRAIN = rows(MEASURED, "train")


@pytest.mark.parametrize(
    ("predicted", "codes"),
    [
        (np.array(MEASURED) + 0.05, []),
        ([0.8] * 5, ["BMD-TRN-022", "BMD-TRN-023"]),
        ([0.799, 0.8, 0.801, 0.802, 0.803], ["BMD-TRN-022"]),
        ([1.0, 0.9, 0.8, 0.7, 0.6], ["BMD-TRN-023"]),
        (np.array(MEASURED) + 0.3, ["BMD-TRN-023"]),
    ],
)
def test_constants_and_what_is_no_better_than_the_mean_have_codes(predicted, codes):
    found = find_weaknesses(TRAIN, rows(predicted), "dxa")
    assert [weakness.code for weakness in found] == codes
    assert [one["code"] for one in describe_weaknesses(found).get("weaknesses", [])] == codes


def test_the_message_holds_both_errors():
    (_, worse) = find_weaknesses(TRAIN, rows([0.8] * 5), "dxa")
    assert "the mean error is 0.12 g/cm2, that of the training mean 0.12" in worse.message


def test_too_few_held_out_say_nothing():
    assert find_weaknesses(TRAIN, rows([0.8] * 5)[:2], "dxa") == []
    assert find_weaknesses(TRAIN, [], "dxa") == []
    assert find_weaknesses(TRAIN, rows([None] * 5), "dxa") == []
