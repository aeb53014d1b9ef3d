"""How well predictions tell osteoporosis and low bone mass: ROC, sensitivity and specificity; calibration; tertiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bmdkit.evaluation.agreement import bootstrap_interval
from bmdkit.evaluation.segmentation_metrics import auroc

T_SCORES = {"osteoporosis": -2.5, "low bone mass": -1.0}
"""T-scores at or below which a condition is there (World Health Organization 1994); the second includes the first."""


@dataclass(frozen=True)
class Screening:
    """How well predicted T-scores tell one condition.

    Attributes:
        condition: Name of the condition.
        t_score: T-score at or below which it is there, and at or below which it is predicted.
        images, patients: Number of images and of patients.
        with_condition: Number of images with it.
        auroc, auroc_interval: Area under the ROC curve with its 95 % interval, patients resampled; NaN where nobody or
            everybody has it.
        sensitivity, sensitivity_interval: Share of those with it that are found.
        specificity, specificity_interval: Share of those without it that are not.
    """

    condition: str
    t_score: float
    images: int
    patients: int
    with_condition: int
    auroc: float
    auroc_interval: tuple[float, float]
    sensitivity: float
    sensitivity_interval: tuple[float, float]
    specificity: float
    specificity_interval: tuple[float, float]


def screen(condition: str, predicted_t, measured_t, patients: Sequence[str], *, rng: np.random.Generator) -> Screening:
    """Measure how well predicted T-scores tell a condition.

    Args:
        condition: A key of `T_SCORES`.
        predicted_t: (n,), predicted T-scores.
        measured_t: (n,), measured T-scores.
        patients: (n,), whose each is; they are resampled for the intervals.
        rng: Generator of the bootstrap.

    Source: Hanley and McNeil 1982, doi 10.1148/radiology.143.1.7063747, for the area.
    """
    cut = T_SCORES[condition]
    predicted, measured = np.asarray(predicted_t, float), np.asarray(measured_t, float)
    names = [str(name) for name in patients]

    def area(p: np.ndarray, y: np.ndarray) -> float:
        return auroc(-p, y <= cut)

    def sensitivity(p: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean(p[y <= cut] <= cut)) if (y <= cut).any() else float("nan")

    def specificity(p: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean(p[y > cut] > cut)) if (y > cut).any() else float("nan")

    found = [one(predicted, measured) for one in (area, sensitivity, specificity)]
    intervals = [
        bootstrap_interval(one, predicted, measured, patients=names, rng=rng)
        for one in (area, sensitivity, specificity)
    ]
    count = int((measured <= cut).sum())
    return Screening(
        condition,
        cut,
        len(predicted),
        len(set(names)),
        count,
        found[0],
        intervals[0],
        found[1],
        intervals[1],
        found[2],
        intervals[2],
    )


@dataclass(frozen=True)
class Calibration:
    """How predictions depend on what was measured.

    Attributes:
        slope, intercept: Least squares of measured on predicted values; 1 and 0 where predictions are calibrated.
        slope_interval: 95 % interval of the slope, patients resampled.
        tertile_limits: Measured values between the lowest, middle and highest tertile.
        tertile_bias: Mean of predicted less measured in each tertile of the measured values.
    """

    slope: float
    intercept: float
    slope_interval: tuple[float, float]
    tertile_limits: tuple[float, float]
    tertile_bias: tuple[float, float, float]


def calibrate_predictions(
    predicted, measured, patients: Sequence[str], *, rng: np.random.Generator
) -> Calibration | None:
    """Measure slope and intercept of measured on predicted values, and the bias by tertile of the measured ones.

    Args:
        predicted: (n,), predicted values.
        measured: (n,), measured values, in the same unit.
        patients: (n,), whose each is.
        rng: Generator of the bootstrap.

    Returns:
        None where all predictions or all measured values are equal.

    Source: Steyerberg 2019, Clinical Prediction Models, chapter 15.
    """
    p, y = np.asarray(predicted, float), np.asarray(measured, float)
    if p.size < 3 or np.ptp(p) == 0 or np.ptp(y) == 0:
        return None

    def slope_of(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.polyfit(a, b, 1)[0]) if np.ptp(a) > 0 else float("nan")

    slope, intercept = np.polyfit(p, y, 1)
    interval = bootstrap_interval(slope_of, p, y, patients=[str(name) for name in patients], rng=rng)
    low, high = (float(limit) for limit in np.quantile(y, (1 / 3, 2 / 3)))
    parts = (y <= low, (y > low) & (y <= high), y > high)
    bias = [float((p - y)[part].mean()) if part.any() else float("nan") for part in parts]
    return Calibration(float(slope), float(intercept), interval, (low, high), (bias[0], bias[1], bias[2]))
