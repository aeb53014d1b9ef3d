"""From the evidence of a search to the probability that a pose is wrong, and to accept, review or reject."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bmdkit.registration.result import Verdict
from bmdkit.registration.settings import VerdictConfig

FITTED_ON = (
    "369 poses of bones in 22 simulated radiographs of 6 warped patients (two anatomies; four postures; with and "
    "without marker, collimation and off-centre beam): full searches, refinements from 1, 2 and 3.5 scaled units away, "
    "femurs turned by up to 30 degrees, labels eroded and dilated by a voxel, mirrored images, CTs of other patients; "
    "154 of them off by more than 10 mm. Each patient judged by a fit to the others: AUROC 0.996 for more than 10 mm, "
    "0.983 for more than 2 mm; of the poses within 2 mm, 94 % accepted; of the accepted, none off by more than 10 mm "
    "and 2.6 % by more than 2 mm (the largest 3.1 mm). Radiographs of patients may score lower: fit again where truth "
    "is known."
)
"""What the coefficients stand for."""


@dataclass(frozen=True)
class Logistic:
    """log(p / (1 - p)) as a line in similarity and in the logarithms of curvature_mm and spread_mm."""

    intercept: float
    similarity: float
    log_curvature: float
    log_spread: float

    def probability(self, evidence: Mapping[str, float]) -> float:
        """Of the event that was fitted."""
        value = (
            self.intercept
            + self.similarity * evidence["similarity"]
            + self.log_curvature * math.log(max(evidence["curvature_mm"], _LEAST_MM))
            + self.log_spread * math.log(max(evidence["spread_mm"], _LEAST_MM))
        )
        return 1 / (1 + math.exp(-min(max(value, -50.0), 50.0)))


_LEAST_MM = 0.05
OVER_2MM = Logistic(9.013, -10.843, 4.169, 0.081)
OVER_10MM = Logistic(6.297, -9.311, 5.069, 0.020)


def judge(evidence: Mapping[str, float], config: VerdictConfig | None = None) -> tuple[Verdict, dict[str, float]]:
    """The verdict on one bone, and the evidence with the probabilities that it gives.

    Args:
        evidence: As `evidence.gather` makes it.
        config: Thresholds.
    """
    config = config or VerdictConfig()
    over_2mm, over_10mm = OVER_2MM.probability(evidence), OVER_10MM.probability(evidence)
    facts = dict(evidence) | {"probability_over_2mm": over_2mm, "probability_over_10mm": over_10mm}
    if evidence["mirrored"] or over_10mm > config.reject_over_10mm:
        return "reject", facts
    sure = (
        over_10mm <= config.accept_over_10mm
        and over_2mm <= config.accept_over_2mm
        and evidence["similarity"] >= config.accept_similarity
        and evidence["spread_mm"] <= config.accept_spread_mm
        and evidence["visible"] >= config.accept_visible
        and evidence["prior"] <= config.accept_prior
    )
    return ("accept" if sure else "review"), facts
