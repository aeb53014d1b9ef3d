"""Decision curves: what a prediction is worth to those who act on it, against acting on everybody or on nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bmdkit.evaluation.agreement import bootstrap_interval

THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(1, 13))
"""Probabilities from which on one would act."""


@dataclass(frozen=True)
class DecisionPoint:
    """Net benefit at one threshold, in true positives per image.

    Attributes:
        threshold: Probability from which on one would act.
        net_benefit, interval: Of acting on the prediction, with its 95 % interval, patients resampled.
        treat_all: Of acting on everybody.
    """

    threshold: float
    net_benefit: float
    interval: tuple[float, float]
    treat_all: float


def probabilities_below(predicted, errors, patients: Sequence[str], cut: float) -> np.ndarray:
    """Probability that the measured value of each image is at or below a cut, from the errors of all other patients.

    Every other patient has the same weight, spread over its images; no form of the errors is assumed.

    Args:
        predicted: (n,), predicted values.
        errors: (n,), predicted less measured.
        patients: (n,), whose each is; two or more.
        cut: The value.

    Returns:
        (n,), 0 to 1.
    """
    p, e = np.asarray(predicted, float), np.asarray(errors, float)
    names, place, count = np.unique([str(one) for one in patients], return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"patients: expected two or more, got {len(names)}")
    weight = 1 / count[place]
    order = np.argsort(e, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weight[order])])
    # measured = predicted - error <= cut where error >= predicted - cut
    all_above = sums[-1] - sums[np.searchsorted(e[order], p - cut, side="left")]
    own = np.array([weight[(place == k) & (e >= value - cut)].sum() for k, value in zip(place, p, strict=True)])
    return (all_above - own) / (len(names) - 1)


def net_benefit(probability, has_condition, threshold: float) -> float:
    """True positives less false positives, these weighted by the odds of the threshold, per image.

    Args:
        probability: (n,), predicted.
        has_condition: (n,), bool.
        threshold: Probability from which on one would act, above 0 and below 1.

    Example:
        >>> net_benefit([0.9, 0.6, 0.4, 0.1], [True, False, True, False], 0.5)
        0.0

    Source: Vickers and Elkin 2006, doi 10.1177/0272989X06295361.
    """
    acted, ill = np.asarray(probability, float) >= threshold, np.asarray(has_condition, bool)
    odds = threshold / (1 - threshold)
    return float(np.mean(acted & ill) - odds * np.mean(acted & ~ill))


def measure_decisions(
    predicted,
    measured,
    patients: Sequence[str],
    cut: float,
    *,
    rng: np.random.Generator,
    thresholds: Sequence[float] = THRESHOLDS,
    repeats: int = 300,
) -> tuple[DecisionPoint, ...]:
    """Net benefit of acting on predictions of a condition that is there at or below a cut.

    Args:
        predicted: (n,), predicted values.
        measured: (n,), measured values, in the same unit.
        patients: (n,), whose each is; they are resampled for the intervals.
        cut: Value at or below which the condition is there.
        rng: Generator of the bootstrap.
        thresholds: Probabilities from which on one would act.
        repeats: Number of bootstrap samples.
    """
    p, y = np.asarray(predicted, float), np.asarray(measured, float)
    probability, ill = probabilities_below(p, p - y, patients, cut), y <= cut
    points = []
    for threshold in thresholds:

        def benefit(a: np.ndarray, b: np.ndarray, at: float = threshold) -> float:
            return net_benefit(a, b, at)

        interval = bootstrap_interval(benefit, probability, ill, patients=patients, rng=rng, repeats=repeats)
        everybody = net_benefit(np.ones(len(ill)), ill, threshold)
        points.append(DecisionPoint(threshold, benefit(probability, ill), interval, everybody))
    return tuple(points)
